//! A cluster whose other nodes are Calico's: its pools, its blocks of addresses and what
//! it notes on Nodes, as a list of nodes.
//!
//! Nothing of it is written. What Calico's own agent makes of the same objects is made
//! here: which routes there are follows from the blocks, how packets travel from the pool
//! around each block, and where tunnels end from the annotations of the Nodes.
//! [`settle`] and what it calls is pure.

mod blocks;
mod input;
mod needs;
mod nodes;
mod pools;
mod settle;

pub(crate) use blocks::{Block, Blocks};
pub(crate) use input::Input;
pub(crate) use nodes::{CalicoNode, CalicoNodes};
pub(crate) use pools::{Pool, Pools};
pub(crate) use settle::settle;
