// SPDX-License-Identifier: Apache-2.0
//! Each test names the numbered conformance rule that it holds.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::*;

fn read(vars: &[(&str, &str)]) -> Result<Environment, Error> {
    Environment::from_vars(|name| {
        vars.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
    })
}

fn attachment(verb: &str, container_id: &str, ifname: &str) -> Environment {
    read(&[
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", container_id),
        ("CNI_NETNS", "/proc/1/ns/net"),
        ("CNI_IFNAME", ifname),
    ])
    .unwrap()
}

#[test]
fn r07_each_verb_needs_its_variables_and_no_other() {
    for (verb, needs) in [
        ("ADD", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"][..]),
        ("CHECK", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"]),
        ("GC", &[]),
        ("STATUS", &[]),
        ("VERSION", &[]),
    ] {
        let mut vars = vec![("CNI_COMMAND", verb)];
        vars.extend(needs.iter().map(|name| (*name, "x")));
        assert!(read(&vars).is_ok(), "{verb} with {needs:?}");
        for name in needs {
            for value in [None, Some("")] {
                let mut vars = vars.clone();
                vars.retain(|(key, _)| key != name);
                vars.extend(value.map(|value| (*name, value)));
                let error = read(&vars).unwrap_err();
                assert_eq!(error.code, Code::INVALID_ENVIRONMENT, "{verb} without {name}");
                assert!(error.msg.contains(name), "{verb} without {name}: {error}");
            }
        }
    }
}

#[test]
fn r08_all_missing_variables_are_named_at_once() {
    let error = read(&[("CNI_COMMAND", "ADD"), ("CNI_NETNS", "/x")]).unwrap_err();
    assert!(error.msg.contains("CNI_CONTAINERID") && error.msg.contains("CNI_IFNAME"), "{error}");
    assert!(!error.msg.contains("CNI_NETNS"), "{error}");
}

#[test]
fn r09_container_ids() {
    for good in ["a", "0", "A-b_c.d", "9..", &"x".repeat(300)] {
        assert!(valid_container_id(good), "{good}");
        attachment("ADD", good, "eth0").validate_syntax().unwrap();
    }
    for bad in ["../x", "-a", "_a", ".a", "é", "aé", "a b", "a/b", "a\n", "a:b"] {
        for verb in ["ADD", "CHECK", "DEL"] {
            let error = attachment(verb, bad, "eth0").validate_syntax().unwrap_err();
            assert_eq!(error.code, Code::INVALID_ENVIRONMENT);
            assert!(error.msg.contains("CNI_CONTAINERID"), "{error}");
            assert!(error.msg.contains(&format!("{bad:?}")), "{error}");
        }
    }
    assert!(!valid_container_id(""));
}

#[test]
fn r10_interface_names_are_measured_in_bytes() {
    for good in ["e", "eth0", "123456789012345", "é", "éééé", "a.b", "...", "a@b"] {
        assert!(valid_interface_name(good), "{good}");
        attachment("ADD", "c1", good).validate_syntax().unwrap();
    }
    // "à" ends in the byte 0xa0, which the kernel takes for whitespace.
    let long = "é".repeat(8);
    for bad in [".", "..", "a/b", "a:b", "a b", "a\tb", "1234567890123456", &long, "a\u{2003}", "à"]
    {
        for verb in ["ADD", "CHECK", "DEL"] {
            let error = attachment(verb, "c1", bad).validate_syntax().unwrap_err();
            assert_eq!(error.code, Code::INVALID_ENVIRONMENT);
            assert!(error.msg.contains("CNI_IFNAME"), "{error}");
        }
    }
    assert!(!valid_interface_name(""));
}

#[test]
fn r11_network_names_have_the_alphabet_of_container_ids() {
    for good in ["k8s-pod-network", "a.b_c", "0"] {
        assert!(valid_network_name(good), "{good}");
    }
    for bad in ["", "a/b", "..", "-n", "netz\u{e4}", "a b"] {
        assert!(!valid_network_name(bad), "{bad}");
    }
}

#[test]
fn r12_an_unknown_verb_is_read_first_and_refused_later() {
    let environment = read(&[("CNI_COMMAND", "FOO")]).unwrap();
    assert_eq!(environment.command, Command::Unknown("FOO".into()));
    let error = environment.validate_syntax().unwrap_err();
    assert_eq!(error.code, Code::INVALID_ENVIRONMENT);
    assert!(error.msg.contains("\"FOO\""), "{error}");
    // Verbs are spelled in capitals.
    assert_eq!(read(&[("CNI_COMMAND", "add")]).unwrap().command, Command::Unknown("add".into()));
}

#[test]
fn r12_no_verb_at_all_names_the_variable() {
    let error = read(&[]).unwrap_err();
    assert_eq!(error.code, Code::INVALID_ENVIRONMENT);
    assert!(error.msg.contains("CNI_COMMAND"), "{error}");
}

#[test]
fn r13_names_are_not_judged_where_the_verb_has_no_use_for_them() {
    for verb in ["GC", "STATUS", "VERSION"] {
        attachment(verb, "../x", "a/b").validate_syntax().unwrap();
    }
}

#[test]
fn r14_netns_override_has_three_spellings() {
    for (value, expected) in
        [("1", true), ("true", true), ("TRUE", true), ("0", false), ("", false), ("yes", false)]
    {
        let vars = [("CNI_COMMAND", "VERSION"), ("CNI_NETNS_OVERRIDE", value)];
        assert_eq!(read(&vars).unwrap().netns_override, expected, "{value:?}");
    }
}

#[test]
fn the_search_path_keeps_its_order_and_loses_empty_parts() {
    let vars = [("CNI_COMMAND", "STATUS"), ("CNI_PATH", ":/b::/a:")];
    assert_eq!(read(&vars).unwrap().path, [PathBuf::from("/b"), PathBuf::from("/a")]);
    assert!(read(&[("CNI_COMMAND", "STATUS")]).unwrap().path.is_empty());
}

#[test]
fn a_variable_that_is_not_utf8_is_named() {
    let error = Environment::from_vars(|name| match name {
        "CNI_COMMAND" => Some("STATUS".into()),
        "CNI_NETNS" => Some(OsString::from_vec(vec![b'/', 0xff])),
        _ => None,
    })
    .unwrap_err();
    assert_eq!(error.code, Code::INVALID_ENVIRONMENT);
    assert!(error.msg.contains("CNI_NETNS"), "{error}");
}

#[test]
fn r74_args_tolerate_unknown_keys_in_any_order() {
    let text = "FOO=1;K8S_POD_NAME=web-0;;BARE;K8S_POD_UID=u=v;K8S_POD_NAMESPACE=shop";
    let args = Args::parse(text);
    assert_eq!(args.text(), text);
    assert_eq!(args.pod(), Some(Pod { namespace: "shop".into(), name: "web-0".into() }));
    assert_eq!(args.value("K8S_POD_UID"), Some("u=v"));
    assert_eq!(args.value("BARE"), Some(""));
    assert_eq!(args.value("foo"), None);
    assert_eq!(Args::parse("A=1;A=2").value("A"), Some("2"));
}

#[test]
fn a_pod_needs_both_names() {
    for text in ["", "K8S_POD_NAME=a", "K8S_POD_NAME=a;K8S_POD_NAMESPACE="] {
        assert_eq!(Args::parse(text).pod(), None, "{text}");
    }
}
