// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;
use serde_json::json;

use super::*;

const PEM: &str = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7n\nQ2hTs3cr3t\n-----END RSA PRIVATE KEY-----";
const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJl-_x";

#[test]
fn a_text_keeps_what_is_no_secret() {
    for text in [
        "",
        "2026-01-02T03:04:05.000Z INFO ADD default/web: eth0 10.244.1.5/24, cali0123456789a, mtu 1450",
        "network net: unknown key \"ipMsaq\": did you mean ipMasq?",
        "container 4f1c9a7be2d03c5f8a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3: no such token",
        "unauthorized: the bearer token is expired; see basic checks, a secret and a password",
        "/opt/cni/bin/ABCDEF0123456789abcdef/ABCDEF0123456789abcdef/x: No such file",
        "https://10.96.0.1:443/api/v1/nodes?watch=1 and https://[fd00::1]:6443/a@b, mail a@b.c",
        "git@github.com:x/y http://h/a@b",
        "net.ipv4.ip_forward = 1\n# a key\nnet.ipv4.conf.all.rp_filter=0\n",
        "and token: null, monkey 1, keys: 3 key: value",
        "{\"mtu\": 1450, \"tokens\"}",
        "open /var/run/secrets/kubernetes.io/serviceaccount/token: no such file",
    ] {
        let expected = text.replace("token: null,", "token: (redacted)");
        assert_eq!(redacted(text), expected);
    }
}

#[test]
fn a_text_loses_what_is_secret() {
    let pem = format!("key {PEM} behind");
    let line = PEM.replace('\n', "\\n");
    let lines = format!("a {line} b {line} c");
    let half = PEM.get(40..).unwrap().to_owned() + " behind";
    let open = PEM.get(..60).unwrap();
    let jwt =
        format!("got {JWT}, and \"{JWT}\" and Bearer {JWT}\nAuthorization: Bearer x y z\nnext");
    for (text, expected) in [
        ("a password=hunter2 x", "a password=(redacted) x"),
        ("run --token abc.def --mtu 1", "run --token (redacted) --mtu 1"),
        ("run -password='a b' -x", "run -password='(redacted)' -x"),
        ("level=info apiKey=\"a \\\" b\" x", "level=info apiKey=\"(redacted)\" x"),
        ("token:\\''a", "token:\\'(redacted)"),
        ("DB_PASSWORD : x\nnext", "DB_PASSWORD : (redacted)\nnext"),
        ("password: correct horse battery\nnext", "password: (redacted)\nnext"),
        ("x password: correct horse", "x password: (redacted) horse"),
        ("net.ipv6.conf.secret0.accept_ra = 2", "net.ipv6.conf.secret0.accept_ra = 2"),
        ("net.ipv4.tcp_fastopen_key = 1-2-3", "net.ipv4.tcp_fastopen_key = (redacted)"),
        (
            "-net/ipv6/conf/all/stable_secret=fe80::1 ",
            "-net/ipv6/conf/all/stable_secret=(redacted)",
        ),
        ("{\"token\": \"a\", \"x\": 1", "{\"token\": \"(redacted)\", \"x\": 1"),
        (r#"says {\"key\": \"a \\\" b\", \"x\": 1"#, r#"says {\"key\": \"(redacted)\", \"x\": 1"#),
        ("\"credentials\" : {\"a\": [\"}\"]}, 1", "\"credentials\" : (redacted), 1"),
        ("\"secret\": [1, {\"a\": ", "\"secret\": (redacted)"),
        ("\"token\": \"a", "\"token\": \"(redacted)"),
        (" CNI_ARGS=K8S_POD_NAME=a;B=c x", " CNI_ARGS=(redacted)"),
        ("http://u:p@h/x, ftp://u@h", "http://(redacted)@h/x, ftp://(redacted)@h"),
        ("postgres://u:p/a@b:c@h:5432/db x@y", "postgres://(redacted)@h:5432/db x@y"),
        ("https://h/x?access_token=abc&x=1", "https://h/x?access_token=(redacted)"),
        ("Bearer abcdefgh1, basic dXNlcjpwYXNz", "Bearer (redacted), basic (redacted)"),
        ("wg yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk= x", "wg (redacted) x"),
        (pem.as_str(), "key (redacted) behind"),
        (&lines, "a (redacted) b (redacted) c"),
        (&half, "(redacted) behind"),
        (open, "(redacted)"),
        (
            &jwt,
            "got (redacted), and \"(redacted)\" and Bearer (redacted)\nAuthorization: (redacted)\nnext",
        ),
    ] {
        assert_eq!(redacted(text), expected, "{text}");
        assert_eq!(redacted(expected), expected, "{text}, twice");
    }
}

#[test]
fn a_document_loses_what_is_secret_by_its_names() {
    let document = json!({
        "name": "net", "mtu": 1450, "key": {"public": "a"}, "Auth": "b",
        "plugins": [{
            "type": "calico", "etcd_key": "a", "k8sAuthToken": {"a": "b"}, "apiKeys": null,
            "env": [{"name": "X", "value": "y"}], "args": ["--token", "t", "--mtu", "5", "--psk=p"],
            "mount": [{"name": "DB_PASSWORD", "value": "x"}, {"name": "SIZE", "value": "y"}],
            "automountServiceAccountToken": true, "pin": {"secret": 5, "x": format!("https://a:b@c {PEM}")},
        }],
        "https://u:p@h": JWT,
        "set": [{"key": "net/ipv6/conf/all/stable_secret", "value": "fe80::1"}, {"key": "net/x", "value": "1"}],
    });
    let expected = json!({
        "name": "net", "mtu": 1450, "key": {"public": "a"}, "Auth": REDACTED,
        "plugins": [{
            "type": "calico", "etcd_key": REDACTED, "k8sAuthToken": REDACTED, "apiKeys": null,
            "env": REDACTED, "args": ["--token", REDACTED, "--mtu", "5", "--psk=(redacted)"],
            "mount": [{"name": "DB_PASSWORD", "value": REDACTED}, {"name": "SIZE", "value": "y"}],
            "automountServiceAccountToken": true, "pin": {"secret": REDACTED, "x": "https://(redacted)@c (redacted)"},
        }],
        "https://(redacted)@h": REDACTED,
        "set": [{"key": "net/ipv6/conf/all/stable_secret", "value": REDACTED}, {"key": "net/x", "value": "1"}],
    });
    let mut clean = document.clone();
    redact(&mut clean);
    assert_eq!(clean, expected);
    assert_eq!(redacted_document(&document.to_string()), format!("{expected:#}\n"));
    // Of two members of one name the first is not kept by accident, and what is no JSON is a text.
    assert_eq!(redacted_document("{\"x\": {\"token\": \"a\"}, \"x\": 1}"), "{\n  \"x\": 1\n}\n");
    assert_eq!(redacted_document("{\"token\": \"a\", }"), "{\"token\": \"(redacted)\", }");
}

/// Nothing in it takes longer than what it is of.
#[test]
fn long_texts_have_their_end() {
    for part in
        ["a.", "eyJ-", "a://", "token ", "bearer ", "-----END ", "\"token\":", "\\", "/a", "key=("]
    {
        let text = part.repeat(100_000 / part.len());
        assert!(!redacted(&text).is_empty(), "{part}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_clean_stays_as_it_is(
        text in "(token|key|[a-z]{1,3}|://|@|:|=|\"|'|\\\\|\\{|\\[|\\}|[ \n]|é|Bearer |\n-----BEGIN |\n-----END |-----\n| --){0,30}"
    ) {
        let once = redacted(&text);
        prop_assert_eq!(redacted(&once), once);
    }

    #[test]
    fn a_planted_secret_is_gone(before in "[a-z \n:/{\"]{0,20}", behind in "[a-z \n:/}\"]{0,20}") {
        for planted in ["password=S3cr3tX", "\"token\": \"S3cr3tX\"", "https://u:S3cr3tX@h", "secret: S3cr3tX"] {
            let clean = redacted(&format!("{before} {planted} {behind}"));
            prop_assert!(!clean.contains("S3cr3t"), "{}", clean);
        }
    }
}
