// SPDX-License-Identifier: Apache-2.0
//! `manx exec --dns`: the names that a pod knows, for a command of the node.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::{Node, harness::Pod};

/// A process of a pod, whose runtime mounted this over its resolv.conf; gone when it is dropped.
struct Container(Child);

impl Container {
    fn start(pod: &Pod, resolv_conf: &Path) -> Self {
        let script = "mount --bind \"$0\" /etc/resolv.conf && echo up && exec sleep 1000";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(resolv_conf).stdout(Stdio::piped());
        let mut child = pod.netns.enter(|| command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        Self(child)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_command_resolves_names_as_the_pod_does() {
    let node = Node::new();
    let (web, _db) = (node.pod("web"), node.pod("db"));
    let scratch = node.host.scratch();
    let text = "nameserver 10.96.0.10\nsearch default.svc.cluster.local\noptions ndots:5\n";
    let file = scratch.file("resolv.conf", text);
    let own = fs::read_to_string("/etc/resolv.conf").unwrap();
    let cat = ["default/web", "cat", "/etc/resolv.conf"];
    let with = |rest: &[&str]| node.manx(&[&["exec", "--dns"], rest].concat());

    let none = with(&cat);
    assert!(none.status == 1 && none.stdout.is_empty(), "{none:?}");
    assert!(none.stderr.contains("its containers do not run; without --dns"), "{none:?}");

    let container = Container::start(&web, &file);
    assert_eq!(with(&cat).ok(), text);
    assert_eq!(node.manx(&[&["exec"], &cat[..]].concat()).ok(), own);
    // It is in the pod's network, cannot write there, and nobody else sees it.
    let script = "ip -o address show dev eth0; cat /etc/nsswitch.conf; echo x >/etc/resolv.conf";
    let said = with(&["default/web", "--", "sh", "-c", script]);
    assert!(said.status != 0 && said.stdout.contains("10.9.0.2"), "{said:?}");
    assert!(said.stderr.contains("Read-only"), "{said:?}");
    assert_eq!(fs::read_to_string("/etc/resolv.conf").unwrap(), own);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(with(&["default/db", "true"]).status, 1);
    assert_eq!(with(&["default/web", "sh", "-c", "exit 7"]).status, 7);
    assert_eq!(with(&["default/web", "no-such-command"]).status, 127);
    let left = fs::read_dir(scratch.dir("root/run/manx")).unwrap().flatten();
    let left: Vec<_> = left.map(|file| file.file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.ends_with(".exec")), "{left:?}");
    drop(container);

    // What is no file is not read: whoever opens a pipe waits for ever.
    let pipe = scratch.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _container = Container::start(&web, &pipe);
    let said = with(&cat);
    assert!(
        said.status == 1 && said.stderr.contains("it is a pipe, not a regular file"),
        "{said:?}"
    );
}
