// SPDX-License-Identifier: Apache-2.0
//! Agents that are killed at each transaction that they have for nf_tables: what they leave allows
//! nothing that neither the old nor the new policies allow, and the next agent makes it whole.

use std::cell::Cell;
use std::fs;

use manx::{
    node,
    policy::{Flow, Policies, allows},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::ground::{Agent, Ground};
use crate::harness::{DEADLINE, Pod, eventually, transactions};
use crate::world::{Api, Both, World, at, client_and_web, enforcing, of_app, pod, policy};

/// So many kills there may be in each of the tests.
const KILLS_MAX: usize = 40;

/// The thread of an agent that keeps the table.
const THREAD: &str = "policy";

/// So many agents a scene has had when it begins.
const STARTS: usize = 3;

const FRIEND: &str = "10.244.2.7";
const STRANGER: &str = "10.244.2.9";

/// One peer may speak to `web` now: the client, and later the friend.
fn worlds() -> [World; 2] {
    let mut old = client_and_web();
    old.pods.push(at(pod("friend", "u7", "node-2"), FRIEND));
    let mut new = old.clone();
    new.policies[0] = to_friend();
    [old, new]
}

/// What changes: who, and by which ports.
fn to_friend() -> Value {
    let mut changed = policy("web", &of_app("friend"));
    changed["spec"]["ingress"][0]["ports"] = json!([{"port": 80}, {"port": 8000, "endPort": 8010}]);
    changed
}

/// A node with both pods, and what its table holds by each of the two worlds.
struct Scene {
    ground: Ground,
    api: Api,
    /// They are attached for as long as they are there.
    _pods: [Pod; 2],
    flows: Vec<Flow>,
    /// In the order of [`worlds`].
    whole: [Policies; 2],
}

/// What the kernel's table holds.
fn held(ground: &Ground) -> Policies {
    ground.host.enter(|| node::policy::held().unwrap()).unwrap_or_default()
}

/// Waits until the agent that was started last has heard all and done it. What an agent that ends
/// sooner has not heard would be told to the next one.
#[track_caller]
fn await_enforced(ground: &Ground) {
    ground.await_log("network policies are enforced");
}

/// All that the pods and those outside could say to each other.
fn flows(pods: [&str; 2]) -> Vec<Flow> {
    let ends = [pods[0], pods[1], FRIEND, STRANGER];
    let ends = ends.map(|address| address.parse().unwrap());
    let services = [(6, Some(80)), (6, Some(81)), (6, Some(8005)), (17, Some(80)), (1, None)];
    let pairs = ends.iter().flat_map(|one| ends.iter().map(move |other| (*one, *other)));
    let flows = pairs.flat_map(|(source, destination)| {
        services.map(|(protocol, port)| Flow { source, destination, protocol, port })
    });
    flows.collect()
}

impl Scene {
    /// Whose agents find these worlds, one after the other: each of the pair once, and then
    /// the rounds.
    fn new(round: &[World]) -> Self {
        let [old, new] = worlds();
        let rounds = round.iter().cycle().take(KILLS_MAX * round.len()).cloned();
        let all: Vec<World> = [old.clone(), old, new].into_iter().chain(rounds).collect();
        let Both { ground, api, agent, web, client, web_address, client_address } = Both::new(&all);
        await_enforced(&ground);
        agent.end(Signal::SIGTERM);
        let flows = flows([&web_address, &client_address]);
        let whole = [(); 2].map(|()| {
            let agent = enforcing(&ground, &api);
            await_enforced(&ground);
            agent.end(Signal::SIGTERM);
            held(&ground)
        });
        let [before, after] = &whole;
        assert!(flows.iter().any(|flow| allows(before, flow) && !allows(after, flow)));
        assert!(flows.iter().any(|flow| !allows(before, flow) && allows(after, flow)));
        Self { ground, api, _pods: [web, client], flows, whole }
    }

    /// The next agent, when it has heard all of a world and made the table that one's.
    #[track_caller]
    fn start(&self, world: usize) -> Agent {
        let agent = enforcing(&self.ground, &self.api);
        await_enforced(&self.ground);
        self.await_whole(world);
        agent
    }

    #[track_caller]
    fn await_whole(&self, world: usize) {
        let ground = &self.ground;
        let came = eventually(DEADLINE, || held(ground) == self.whole[world]);
        assert!(came, "not {:?}, but {:?}: {}", self.whole[world], held(ground), ground.log());
    }

    /// The next agent, which knows the new world, makes it whole.
    fn mend(&self) {
        self.start(1).end(Signal::SIGKILL);
    }

    /// Whether what was left by a kill is neither of the two.
    #[track_caller]
    fn is_partial(&self, count: usize) -> bool {
        let [before, after] = &self.whole;
        let left = held(&self.ground);
        for flow in &self.flows {
            let [was, is, will] = [before, &left, after].map(|held| allows(held, flow));
            assert!(is == was || is == will, "killed at {count}: {flow:?}: {is}: {left:?}");
        }
        left != *before && left != *after
    }

    /// Has one agent after the other killed, at each of its transactions, by whatever a round
    /// does with the options of strace that it is given, and the next one mend what is left.
    fn killed_at_each(&self, round: &dyn Fn(&[String]) -> Agent) {
        let noted = self.ground.path("sent").display().to_string();
        let agent = round(&options(&noted, None));
        self.await_whole(1);
        agent.end(Signal::SIGTERM);
        self.mend();
        let transactions = transactions(&fs::read_to_string(noted).unwrap());
        assert!((3..KILLS_MAX / 2).contains(&transactions.len()), "{transactions:?}");
        let mut partial = 0;
        for count in &transactions {
            let mut agent = round(&options("/dev/null", Some(*count)));
            assert!(agent.is_killed(), "not killed at {count}: {}", self.ground.log());
            partial += usize::from(self.is_partial(*count));
            self.mend();
        }
        assert!(partial > 0, "{transactions:?}");
    }
}

/// Options of strace that note what is sent, or kill at the message of that number.
fn options(noted: &str, kill: Option<usize>) -> Vec<String> {
    let inject = kill.map(|count| format!("--inject=sendto:signal=KILL:when={count}"));
    let options = ["-qq", "-o", noted, "--trace=sendto"].map(str::to_owned);
    options.into_iter().chain(inject).collect()
}

/// The table is that of the old world, and the agent that starts knows the new one.
#[test]
fn an_agent_that_is_killed_as_it_starts_is_between_the_worlds() {
    let [old, new] = worlds();
    let late = World { is_late: true, ..new.clone() };
    let scene = Scene::new(&[old, late, new]);
    let starts = Cell::new(STARTS);
    scene.killed_at_each(&|options| {
        scene.start(0).end(Signal::SIGKILL);
        let mut agent = enforcing(&scene.ground, &scene.api);
        agent.trace(THREAD, options);
        scene.api.end_policies(starts.get() + 1);
        starts.set(starts.get() + 3);
        agent
    });
}

/// The agent that made the table is told of a change.
#[test]
fn an_agent_that_is_killed_at_a_change_is_between_the_worlds() {
    let scene = Scene::new(&worlds());
    let starts = Cell::new(STARTS);
    scene.killed_at_each(&|options| {
        let mut agent = scene.start(0);
        agent.trace(THREAD, options);
        scene.api.tell_one(starts.get(), "MODIFIED", &to_friend());
        starts.set(starts.get() + 2);
        agent
    });
}
