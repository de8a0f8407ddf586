// SPDX-License-Identifier: Apache-2.0
//! `manx report` on bundles of real nodes, with a fault and with nodes that disagree: the page, and
//! what a browser makes of it. `MANX_REPORT_PICTURES=DIR` keeps what was seen.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::browser::{Browser, Screen};
use crate::cluster::{Cluster, Families, MANX, Node, batch, entry};
use crate::doctor::bundle;
use crate::harness::{DEADLINE, Pod, Scratch, Stdin, plugin_dir, run};

const DESKTOP: Screen = Screen { width: 1280, height: 900, dark: false };
const PHONE: Screen = Screen { width: 375, height: 812, dark: false };
const DARK: Screen = Screen { dark: true, ..DESKTOP };

/// What a pod may be called where nobody looks at it.
const HOSTILE: &str = "<img src=//example.org/x onerror=alert(1)>";

/// Two nodes and their pods.
fn nodes() -> (Cluster, Vec<Pod>) {
    let keys = json!({"mode": "vxlan", "ipMasq": true, "ipam": {
        "type": "manx-ipam", "ranges": [[{"subnet": "usePodCidr"}]]
    }});
    let cluster = Cluster::new(2, Families::Ipv4, &keys);
    for node in &cluster.nodes {
        // Of the third there is no bundle.
        node.set_peers(&[1, 2, 3].map(|number| entry(number, Families::Ipv4)));
    }
    cluster.apply();
    let mut pods = Vec::new();
    for (node, names) in cluster.nodes.iter().zip([&["web", "db", HOSTILE][..], &["queue"]]) {
        for name in names {
            let pod = Pod::new(&format!("pod{}", pods.len())).kubernetes("shop", name);
            node.plugin.add(&pod).ok();
            pods.push(pod);
        }
    }
    (cluster, pods)
}

/// Writes their bundles, and gives the files.
fn bundles(cluster: &Cluster, scratch: &Scratch) -> Vec<PathBuf> {
    let files = cluster.nodes.iter().map(|node| {
        let name = format!("{}.bundle", node.number);
        scratch.file(&name, bundle(node))
    });
    files.collect()
}

fn probed(node: &Node, scratch: &Scratch) -> PathBuf {
    let told = node.manx(&["probe", "--json"]);
    assert!([0, 3].contains(&told.status), "{told:?}");
    scratch.file(&format!("{}.probe", node.number), told.stdout)
}

/// The page of these files, which lies in a file.
fn report(node: &Node, bundles: &[PathBuf], probes: &[PathBuf], scratch: &Scratch) -> PathBuf {
    let page = scratch.path().join("report.html");
    let mut args = vec!["report".to_owned()];
    args.extend(bundles.iter().map(|file| file.display().to_string()));
    args.extend(probes.iter().flat_map(|file| ["--probe".to_owned(), file.display().to_string()]));
    args.extend(["--output".to_owned(), page.display().to_string()]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = node.host.command(MANX, &args);
    assert_eq!((done.status, done.stderr.as_str()), (0, ""), "{done:?}");
    page
}

/// Texts of the drawing that leave their node, or lie on something else of it.
const WRITTEN_OVER: &str = "[...document.querySelectorAll('svg.drawing svg')].flatMap(card => {
    const texts = [...card.querySelectorAll('text')];
    const things = [...texts, ...card.querySelectorAll('.pod rect')].map(one => [one, one.getBBox()]);
    const over = (a, b) => Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x) > 0
        && Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y) > 2;
    return texts.filter(text => {
        const box = text.getBBox();
        return box.width > 0 && (box.x < 0 || box.x + box.width > card.width.baseVal.value
            || things.some(([other, its]) => other !== text && over(box, its)));
    }).map(text => text.textContent);
})";

/// Looks at a page on every screen: nothing of it is wider than a phone, nothing is asked for,
/// nothing is in the console.
fn look(page: &Path, name: &str) -> Value {
    let mut browser = Browser::start();
    let mut shown = browser.open(page, DESKTOP);
    let keep = |kind: &str, bytes: &[u8]| {
        if let Some(directory) = std::env::var_os("MANX_REPORT_PICTURES") {
            let file = format!("{name}-{kind}");
            fs::write(Path::new(&directory).join(file), bytes).unwrap();
        }
    };
    for (kind, screen) in [("desktop.png", DESKTOP), ("phone.png", PHONE), ("dark.png", DARK)] {
        shown.shows(screen);
        let width = shown.evaluate("document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(width <= u64::from(screen.width), "{name} {kind}: {width} of {}", screen.width);
        let written_over = shown.evaluate(WRITTEN_OVER);
        assert_eq!(written_over, json!([]), "{name} {kind}");
        let picture = shown.picture();
        assert!(picture.starts_with(b"\x89PNG"));
        keep(kind, &picture);
    }
    let background = "getComputedStyle(document.body).backgroundColor";
    let dark = shown.evaluate(background);
    shown.shows(PHONE);
    assert_ne!(shown.evaluate(background), dark);
    // One drawing of the two is shown.
    let drawings =
        "[...document.querySelectorAll('svg.drawing')].filter(one => one.getClientRects().length)
        .map(one => one.classList[1])";
    assert_eq!(shown.evaluate(drawings), json!(["narrow"]));
    shown.shows(DESKTOP);
    assert_eq!(shown.evaluate(drawings), json!(["broad"]));
    let printed = shown.printed();
    assert!(printed.starts_with(b"%PDF-"));
    keep("print.pdf", &printed);
    // Paper has no triangle to be opened.
    shown.prints();
    let folded = "[...document.querySelectorAll('details table')].filter(one => one.offsetHeight === 0).length";
    assert_eq!(shown.evaluate(folded), 0);
    shown.shows(DESKTOP);
    // No element is what a name of somebody wanted to be.
    let strange = "[...document.querySelectorAll('script,img,iframe,link,object,form')].length";
    assert_eq!(shown.evaluate(strange), 0);
    assert_eq!(shown.requests(), [format!("file://{}", page.display())]);
    assert!(shown.console().is_empty(), "{:#?}", shown.console());
    shown.evaluate("document.body.innerText")
}

#[test]
fn two_nodes_that_are_well_are_one_page_that_says_so() {
    let (cluster, _pods) = nodes();
    for node in &cluster.nodes {
        node.set_peers(&[1, 2].map(|number| entry(number, Families::Ipv4)));
        node.apply().ok();
    }
    let scratch = Scratch::new();
    let probes: Vec<PathBuf> = cluster.nodes.iter().map(|node| probed(node, &scratch)).collect();
    let files = bundles(&cluster, &scratch);
    let page = report(&cluster.nodes[0], &files, &probes, &scratch);
    let mode = fs::metadata(&page).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = look(&page, "well");
    let text = text.as_str().unwrap();
    for words in ["Healthy", "and the nodes agree", "IPv4: MTU 1450 = eth0's 1500 - 50", "MTU 1450"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("node-c") && !text.contains("Between nodes\n"), "{text}");
    // Each of the two measured the other one, both ways.
    assert_eq!(text.matches("MTU 1500").count(), 2, "{text}");
    assert_eq!(text.matches("MTU 1450").count() - text.matches("MTU 1450 =").count(), 2, "{text}");
    // The same to stdout, and what is no file stays.
    let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let host = &cluster.nodes[0].host;
    let one = host.command(MANX, &["report", files[0]]);
    assert!(one.status == 0 && one.stdout.starts_with("<!doctype html>"), "{one:?}");
    let twice = host.command(MANX, &["report", files[0], files[0]]);
    assert!(twice.status == 1 && twice.stderr.contains("are of the same node"), "{twice:?}");
    let pipe = scratch.path().join("pipe");
    host.command("mkfifo", &[pipe.to_str().unwrap()]).ok();
    let refused = host.command(MANX, &["report", files[0], "--output", pipe.to_str().unwrap()]);
    assert!(refused.status == 1 && refused.stderr.contains("it is a pipe"), "{refused:?}");
    let probe = probes[0].to_str().unwrap();
    let wrong = host.command(MANX, &["report", probe]);
    assert!(wrong.status == 1 && wrong.stderr.contains("no bundle of manx bundle"), "{wrong:?}");
    let wrong = host.command(MANX, &["report", files[0], "--probe", files[1]]);
    assert!(wrong.status == 1 && wrong.stderr.contains("no output of manx probe"), "{wrong:?}");
}

#[test]
fn a_fault_and_nodes_that_disagree_are_on_top() {
    let (cluster, pods) = nodes();
    let [a, b] = cluster.nodes.as_slice() else { panic!("two nodes") };
    // A route is gone, a pod's link is down, b's pods are elsewhere by the list of a, and b has
    // another VNI.
    let mut wrong = entry(2, Families::Ipv4);
    wrong["podCIDRs"] = json!(["10.244.20.0/24"]);
    a.set_peers(&[entry(1, Families::Ipv4), wrong, entry(3, Families::Ipv4)]);
    batch(&a.host, "route del 10.244.2.0/24");
    let link = a.host.links().into_iter().find(|name| name.starts_with("cali")).unwrap();
    batch(&a.host, &format!("link set {link} down"));
    let other = b.with("vxlan", json!({"vni": 77}));
    let scratch = Scratch::new();
    let probes = [probed(a, &scratch)];
    // One is packed, as support gets it.
    let packed = scratch.path().join("a.gz");
    let mut write = a.command(&["bundle", packed.to_str().unwrap()]);
    write.env("CNI_PATH", plugin_dir());
    a.host.enter(|| run(write, &Stdin::Null, DEADLINE)).ok();
    let files = [packed, scratch.file("b.bundle", bundle(&other))];
    let page = report(a, &files, &probes, &scratch);
    let text = look(&page, "faulty");
    let text = text.as_str().unwrap();
    for words in [
        "Not healthy",
        "10.244.2.0/24 by its own list; 10.244.20.0/24 by the list of node-a",
        "4096 on node-a; 77 on node-b",
        "node-c",
        "no bundle",
        "1 node is known by the lists of others alone",
        "node-a → node-b",
        "not probed",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}: {text}"));
    assert!(place("4096 on node-a") < place("Squares are pods"));
    assert!(text.contains(HOSTILE), "{text}");
    drop(pods);
}

/// Names that are as long as names may be are cut, and all that is said of many nodes is bounded.
#[test]
fn many_nodes_with_long_names_are_a_page_as_well() {
    let (cluster, pods) = nodes();
    let a = &cluster.nodes[0];
    let many = (3..=1200).map(|number| {
        let letters = ["worker", "WORKER", "worker-of-a-large-cluster", "MMMMMMWWWWWW", "節點"];
        let name = format!("{number}-{}", letters[number % letters.len()].repeat(5));
        let address = format!("198.51.{}.{}", 100 + number / 200, 1 + number % 200);
        let cidr = format!("10.{}.{}.0/24", 64 + number / 256, number % 256);
        json!({"name": name, "addresses": [address], "podCIDRs": [cidr]})
    });
    let all: Vec<Value> =
        [1, 2].map(|number| entry(number, Families::Ipv4)).into_iter().chain(many).collect();
    a.set_peers(&all);
    let scratch = Scratch::new();
    let page = report(a, &bundles(&cluster, &scratch), &[], &scratch);
    assert!(fs::metadata(&page).unwrap().len() < 1 << 20);
    let text = look(&page, "many");
    let text = text.as_str().unwrap();
    for words in [
        "1,192 more nodes without a bundle",
        "more nodes have no column",
        "not in it, and in that of",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    drop(pods);
}
