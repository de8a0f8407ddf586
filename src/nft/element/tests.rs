// SPDX-License-Identifier: Apache-2.0
//! Elements as bytes, against what nft sends for the same text, and back again.

use proptest::prelude::*;

use super::*;
use crate::family::Family;
use crate::nft::set::{Content, Data, Field, Type, changes};

fn set(key: &[Type], data: Option<Data>, ranges: Ranges) -> Set {
    let content = Content::Following(Elements::new());
    Set { name: "set", key: key.to_vec(), data, ranges, content }
}

fn emitted(elements: &[Attribute]) -> Vec<u8> {
    let mut bytes = Vec::new();
    elements.iter().for_each(|element| element.emit(&mut bytes));
    bytes
}

const IPV4: Type = Type::Address(Family::V4);

fn address(text: &str) -> Field<'static> {
    Field::Address(text.parse().unwrap())
}

#[test]
fn group_7_and_10_1_0_1_jump_other() {
    let expected =
        b"\x30\0\x01\x80\x10\0\x01\x80\x0c\0\x01\0\x07\0\0\0\x0a\x01\0\x01\x1c\0\x02\x80\
        \x18\0\x02\x80\x08\0\x01\0\xff\xff\xff\xfd\x0a\0\x02\0other\0\0\0";
    let key = Key::of(&[Field::Group(7), address("10.1.0.1")]);
    let value = Value::Verdict(Verdict::Jump("other"));
    let set = set(&[Type::Group, IPV4], Some(Data::Verdict), Ranges::None);
    assert_eq!(emitted(&set.element(&key, Some(&value))), expected);
}

#[test]
fn network_and_address_and_ports() {
    let expected = b"\x2c\0\x01\x80\x14\0\x01\x80\x10\0\x01\0\x0a\x01\0\0\xc0\0\x02\x07\0P\0\0\
        \x14\0\x0a\x80\x10\0\x01\0\x0a\x01\0\xff\xc0\0\x02\x07\0Z\0\0";
    let flow = |source, port| [address(source), address("192.0.2.7"), Field::Port(port)];
    let key = Key::range(&flow("10.1.0.0", 80), &flow("10.1.0.255", 90));
    let set = set(&[IPV4, IPV4, Type::Port], None, Ranges::Each);
    assert_eq!(emitted(&set.element(&key, None)), expected);
    assert_eq!(set.text(&key), "10.1.0.0-10.1.0.255 . 192.0.2.7 . 80-90");
}

/// Ranges that do not overlap, some next to the other, up to the last key.
fn elements() -> impl Strategy<Value = Elements> {
    let bounds = proptest::collection::btree_set(prop_oneof![0u16..40, 0xfff0u16..=0xffff], 0..12);
    bounds.prop_map(|bounds| {
        let bounds: Vec<u16> = bounds.into_iter().collect();
        let pairs = bounds.chunks_exact(2).map(|pair| {
            let [first, last] = [pair[0], pair[1]].map(|port| vec![(port >> 8) as u8, port as u8]);
            (Key::between(first, last), Some(Value::Number(pair[0].into())))
        });
        pairs.collect()
    })
}

proptest! {
    #[test]
    fn what_is_sent_is_read_back(sent in elements(), reversed in any::<bool>()) {
        let table = Table::default();
        for ranges in [Ranges::Last, Ranges::Each] {
            let set = set(&[Type::Port], Some(Data::Number), ranges);
            let mut list: Vec<Attribute> =
                sent.iter().flat_map(|(key, value)| set.element(key, value.as_ref())).collect();
            if reversed {
                list.reverse();
            }
            let object = emitted(&[Attribute::nest(NFTA_SET_ELEM_LIST_ELEMENTS, list)]);
            prop_assert_eq!(set.held(&table, &[object]), sent.clone());
        }
    }

    #[test]
    fn changes_make_one_of_the_other(held in elements(), wanted in elements()) {
        let mut made = held.clone();
        let (gone, new) = changes(&held, &wanted);
        for key in gone {
            prop_assert!(made.remove(key).is_some());
        }
        for (key, value) in new {
            prop_assert!(made.insert(key.clone(), value.cloned()).is_none());
        }
        prop_assert_eq!(&made, &wanted);
        prop_assert_eq!(changes(&made, &wanted), (Vec::new(), Vec::new()));
    }
}
