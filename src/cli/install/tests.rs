// SPDX-License-Identifier: Apache-2.0
use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process,
};

use super::*;
use crate::cli::tests::manx;

/// A root of its own for each test, removed at the end.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str) -> Self {
        let root = env::temp_dir().join(format!("manx-install-{}-{name}", process::id()));
        fs::create_dir_all(&root).unwrap();
        Self(root)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    fn dir(&self, path: &str) -> &Self {
        fs::create_dir_all(self.path(path)).unwrap();
        self
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap()
    }

    fn install(&self, arguments: &[&str]) -> (u8, String, String) {
        let root = self.0.to_str().unwrap();
        manx(&[&["install", "--root", root], arguments].concat())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const CONFLIST: &str = "/etc/cni/net.d/10-manx.conflist";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn it_installs_once_and_says_so_twice() {
    let machine = Machine::new("once");
    machine.dir("/etc/systemd/network").dir("/etc/NetworkManager").dir("/etc/sysctl.d");
    let (code, out, err) = machine.install(&[]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let own = fs::read("/proc/self/exe").unwrap();
    assert!(machine.read("/opt/cni/bin/manx") == own);
    assert_eq!(mode(&machine.path("/opt/cni/bin/manx")), 0o755);
    assert_eq!(machine.read(CONFLIST), DEFAULT.1.as_bytes());
    assert_eq!(mode(&machine.path(CONFLIST)), 0o600);
    for drop_in in &DROP_INS {
        assert!(machine.read(drop_in.path).starts_with(drop_in.text.as_bytes()));
        assert!(out.contains(&format!("{}: installed", drop_in.path)), "{out}");
    }
    let (code, again, err) = machine.install(&[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(!again.contains("installed") && again.matches("unchanged").count() == 8, "{again}");
    let files = fs::read_dir(machine.path("/opt/cni/bin")).unwrap().count();
    assert_eq!(files, 2, "a temporary file stays");
}

#[test]
fn the_allocator_is_a_link_unless_somebody_has_that_name() {
    let machine = Machine::new("allocator");
    let link = machine.path("/opt/cni/bin/manx-ipam");
    assert_eq!(machine.install(&["--no-conf"]).0, 0);
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("manx"));
    assert_eq!(machine.install(&["--name", "calico"]).0, 0);
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("manx"), "it serves");
    fs::remove_file(&link).unwrap();
    let link = machine.write("/opt/cni/bin/manx-ipam", "#!/bin/sh");
    let (code, out, _) = machine.install(&["--no-conf"]);
    assert!(code == 0 && out.contains("manx-ipam: kept"), "{out}");
    assert_eq!(machine.install(&["--no-conf", "--force"]).0, 0);
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("manx"));
}

#[test]
fn daemons_that_are_not_there_get_nothing() {
    let machine = Machine::new("daemons");
    machine.dir("/etc/NetworkManager");
    let (code, out, _) = machine.install(&[]);
    assert_eq!(code, 0);
    assert!(machine.path("/etc/NetworkManager/conf.d/10-manx.conf").exists());
    assert!(!machine.path("/etc/systemd").exists() && !machine.path("/etc/sysctl.d").exists());
    assert!(out.contains("left out"), "{out}");
    let bare = Machine::new("bare");
    bare.dir("/etc/NetworkManager");
    assert_eq!(bare.install(&["--no-dropins"]).0, 0);
    assert!(!bare.path("/etc/NetworkManager/conf.d").exists());
}

#[test]
fn the_drop_ins_follow_the_configuration_and_keep_what_was_edited() {
    let machine = Machine::new("names");
    machine.dir("/etc/systemd/network").dir("/etc/NetworkManager").dir("/etc/sysctl.d");
    // As 0.1 wrote it.
    let former = include_str!("../../../conf/systemd/network/10-manx.link");
    let link = machine.write("/etc/systemd/network/10-manx.link", former);
    let keys = r#""type": "manx", "hostPrefix": "pod", "vxlan": {"device": "flannel.1"},"#;
    let conf = DEFAULT.1.replacen(r#""type": "manx","#, keys, 1);
    let conf = machine.write("/tmp/05-mine.conflist", &conf);
    let (code, out, err) = machine.install(&["--conf", conf.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for path in ["systemd/network/10-manx.network", "NetworkManager/conf.d/10-manx.conf"] {
        let text = String::from_utf8(machine.read(&format!("/etc/{path}"))).unwrap();
        for name in ["pod*", "flannel.1", "flannel-v6.1", "tunl0"] {
            assert!(text.contains(name), "{name}: {text}");
        }
    }
    let networkd = machine.read("/etc/systemd/networkd.conf.d/10-manx.conf");
    for key in ["ManageForeignRoutes=no", "ManageForeignRoutingPolicyRules=no"] {
        assert!(String::from_utf8_lossy(&networkd).contains(key));
    }
    assert!(out.contains("10-manx.link: replaced"), "{out}");
    let reload = "to take effect: systemctl try-restart systemd-networkd";
    assert_eq!(out.matches(reload).count(), 1, "{out}");
    // Another network: the files follow, but for the one that somebody edited.
    fs::write(&link, [&*fs::read(&link).unwrap(), b"# mine\n"].concat()).unwrap();
    machine.write("/etc/cni/net.d/20-other.conflist", DEFAULT.1);
    let (code, out, _) = machine.install(&[]);
    assert!(code == 0 && out.contains("10-manx.network: replaced"), "{out}");
    assert!(out.contains("10-manx.link: kept, it differs"), "{out}");
    let text = String::from_utf8(machine.read("/etc/systemd/network/10-manx.network")).unwrap();
    assert!(text.contains("pod* cali* tunl0"), "{text}");
    let (_, out, _) = machine.install(&[]);
    assert!(!out.contains("to take effect"), "{out}");
}

#[test]
fn units_are_of_this_node_and_follow_it() {
    let machine = Machine::new("units");
    let list = |file: &str| {
        let keys = format!(r#""type": "manx", "peersFile": "{file}","#);
        DEFAULT.1.replacen(r#""type": "manx","#, &keys, 1)
    };
    let conf = machine.write("/tmp/05-mine.conflist", &list("/srv/a.json"));
    let arguments = ["--bin-dir", "/srv/cni", "--conf", conf.to_str().unwrap(), "--units"];
    let (code, out, err) = machine.install(&arguments);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let text = |path: &str| String::from_utf8(machine.read(path)).unwrap();
    let path = "/etc/systemd/system/manx-apply.path";
    assert!(text(path).contains("\nPathChanged=/srv/a.json\n"), "{}", text(path));
    let watch = "/etc/systemd/system/manx-watch.service";
    assert!(text(watch).contains("\nExecStart=/srv/cni/manx apply --watch\n"), "{}", text(watch));
    assert_eq!(mode(&machine.path(watch)), 0o644);
    assert!(text("/etc/iproute2/rt_protos.d/manx.conf").contains("\n109\tmanx\n"));
    for line in ["systemctl daemon-reload", "systemctl enable --now manx-watch.service"] {
        assert_eq!(out.matches(line).count(), 1, "{line}: {out}");
    }
    assert!(!out.contains("try-restart"), "{out}");
    // A later install keeps them up to date, but for one that somebody edited.
    let edited = machine.path("/etc/systemd/system/manx-apply.service");
    fs::write(&edited, text("/etc/systemd/system/manx-apply.service") + "# mine\n").unwrap();
    let wants = machine.path("/etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    std::os::unix::fs::symlink(watch, wants.join("manx-watch.service")).unwrap();
    machine.write("/etc/cni/net.d/05-mine.conflist", &list("/srv/b.json"));
    let (code, out, err) = machine.install(&["--bin-dir", "/srv/cni", "--no-conf"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(text(path).contains("\nPathChanged=/srv/b.json\n"), "{}", text(path));
    assert!(out.contains("manx-apply.service: kept, it differs"), "{out}");
    assert!(out.contains("systemctl try-restart manx-watch.service"), "{out}");
    assert!(!out.contains("enable --now"), "{out}");
    let (_, out, _) = machine.install(&["--bin-dir", "/srv/cni", "--no-conf"]);
    assert!(!out.contains("to take effect"), "{out}");
    // Who asks for none has none.
    let without = Machine::new("no-units");
    assert_eq!(without.install(&[]).0, 0);
    assert!(!without.path("/etc/systemd").exists() && !without.path("/etc/iproute2").exists());
    assert_eq!(without.install(&["--units", "--conf-dir", "/x"]).0, 2);
}

#[test]
fn what_differs_is_kept_until_forced() {
    let machine = Machine::new("kept");
    machine.write(CONFLIST, "{}");
    let (code, out, _) = machine.install(&[]);
    assert!(code == 0 && out.contains("--force"), "{out}");
    assert_eq!(machine.read(CONFLIST), b"{}");
    assert!(machine.path("/opt/cni/bin/manx").exists());
    let (code, out, _) = machine.install(&["--force"]);
    assert!(code == 0 && out.contains("10-manx.conflist: replaced"), "{out}");
    assert_eq!(machine.read(CONFLIST), DEFAULT.1.as_bytes());
}

#[test]
fn a_given_configuration_is_looked_at_first() {
    let machine = Machine::new("given");
    let good = machine.write("/tmp/05-mine.conflist", DEFAULT.1);
    let bad = machine.write("/tmp/06-bad.conflist", &DEFAULT.1.replace("manx-ipam", ""));
    let (code, out, err) = machine.install(&["--conf", bad.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("ipam") && !machine.path("/opt").exists(), "{err}");
    let (code, _, err) = machine.install(&["--conf", good.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(machine.path("/etc/cni/net.d/05-mine.conflist").exists());
    // A second run without --conf finds it and adds no other.
    let (code, out, _) = machine.install(&[]);
    assert!(code == 0 && out.contains("05-mine.conflist: kept"), "{out}");
    assert!(!machine.path(CONFLIST).exists());
    // Asked for and not written is a failure.
    machine.write("/etc/cni/net.d/05-mine.conflist", "{}");
    assert_eq!(machine.install(&["--conf", good.to_str().unwrap()]).0, 1);
    assert_eq!(machine.read("/etc/cni/net.d/05-mine.conflist"), b"{}");
}

#[test]
fn it_says_which_configuration_counts_and_what_is_missing() {
    let machine = Machine::new("first");
    machine.write("/etc/cni/net.d/00-loopback.conflist", r#"{"name": "lo", "plugins": []}"#);
    let (_, out, _) = machine.install(&[]);
    assert!(out.contains("00-loopback.conflist: comes first"), "{out}");
    assert!(out.contains("no plugin \"portmap\""), "{out}");
    assert!(!out.contains("no plugin \"manx\""), "{out}");
}

#[test]
fn the_default_offers_what_portmap_speaks() {
    for (spoken, offered, single) in [
        (r#"["0.4.0","1.0.0","1.1.0"]"#, r#"["1.0.0", "1.1.0"]"#, "1.0.0"),
        (r#"["0.3.1","0.4.0","1.0.0"]"#, r#"["1.0.0"]"#, "1.0.0"),
        (r#"["0.3.1","0.4.0"]"#, r#"["0.4.0"]"#, "0.4.0"),
    ] {
        let machine = Machine::new("portmap");
        let text = format!("#!/bin/sh\necho '{{\"supportedVersions\":{spoken}}}'\n");
        let portmap = machine.write("/opt/cni/bin/portmap", &text);
        fs::set_permissions(&portmap, fs::Permissions::from_mode(0o755)).unwrap();
        let (code, out, err) = machine.install(&[]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let conf = String::from_utf8(machine.read(CONFLIST)).unwrap();
        assert!(conf.contains(&format!(r#""cniVersions": {offered}"#)), "{conf}");
        assert!(conf.contains(&format!(r#""cniVersion": "{single}""#)), "{conf}");
        assert_eq!(conf == DEFAULT.1, !out.contains("neither GC nor STATUS"), "{out}");
        assert!(!out.contains("error"), "{out}");
        let (_, again, _) = machine.install(&[]);
        assert!(again.contains("10-manx.conflist: unchanged"), "{again}");
    }
}

#[test]
fn under_calicos_name_it_takes_over_calicos_configuration() {
    let machine = Machine::new("calico");
    machine.write("/opt/cni/bin/calico", "not ours");
    let (code, _, err) = machine.install(&["--name", "calico"]);
    assert!(code == 1 && err.contains("--force"), "{err}");
    assert_eq!(machine.read("/opt/cni/bin/calico"), b"not ours");
    assert_eq!(machine.install(&["--name", "calico", "--force"]).0, 0);
    assert!(machine.read("/opt/cni/bin/calico") == fs::read("/proc/self/exe").unwrap());
    assert!(!machine.path("/etc/cni").exists());
    assert_eq!(machine.install(&["--name", "flannel"]).0, 2);
    assert_eq!(machine.install(&["--conf", "x", "--no-conf"]).0, 2);
}

#[test]
fn an_older_copy_of_ours_is_replaced() {
    let machine = Machine::new("older");
    machine.write("/opt/cni/bin/manx", &format!("older {MARK} version"));
    let (code, out, _) = machine.install(&["--no-conf", "--no-dropins"]);
    assert!(code == 0 && out.contains("/opt/cni/bin/manx: replaced"), "{out}");
}
