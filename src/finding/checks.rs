// SPDX-License-Identifier: Apache-2.0
//! All checks by name, and why it matters what each finds.

const CHECKS: &[(&str, &str)] = &[
    (
        "state-unreadable",
        "what is noted there is not known: an attachment may lack its DEL, a lease its owner",
    ),
    ("configuration-invalid", "every ADD of the network fails"),
    (
        "foreign-cni",
        "a runtime gives new pods to the plugin that the first configuration of its directory \
              names, and starts none without one",
    ),
    ("delegate-missing", "every ADD and every DEL of the network fails without it"),
    (
        "delegate-version",
        "a runtime takes the newest version that the file offers, and every plugin of the list \
              has to speak it",
    ),
    ("node-address-changed", "the other nodes send this node's pods their packets to that address"),
    ("fabric-stale", "nodes that came or went since are not known to this one"),
    (
        "fabric-contradiction",
        "every ADD of the network fails, and its routes stay as they were applied last",
    ),
    ("fabric-conflict", "what somebody else has is left alone, and what needs it is not made"),
    ("peer-excluded", "no route leads to the pods of a node that is left out"),
    (
        "pod-cidr-missing",
        "pods get their addresses from the node's podCIDR: without it none can start here",
    ),
    (
        "cluster-cidrs-wrong",
        "the agent does not go by such a range: nodes that come are not reached from here",
    ),
    ("calico-annotations", "nodes that run Calico have no way to this node's pods without them"),
    (
        "calico-pools",
        "a node has one mode, and one answer to whether pods are masqueraded, for all its pods",
    ),
    (
        "pod-cidr-changed",
        "the other nodes send packets to these pods to whoever has the podCIDR now, or nowhere",
    ),
    (
        "address-ignored",
        "packets to the node's pods go to another of its addresses, or nowhere if it has none",
    ),
    ("rp-filter", "the kernel drops packets of which the way back is another link"),
    ("ip-forward", "without it the kernel drops every packet that is not for the node itself"),
    (
        "forward-drop",
        "pods' packets are forwarded, and such a chain drops what no rule of it accepts",
    ),
    (
        "accept-ra",
        "a node that forwards believes router advertisements only with accept_ra 2: without it \
              the route, and the address, expire",
    ),
    ("neighbour-missing", "the tunnel does not know which node a peer's pods are behind"),
    ("route-missing", "packets to these pods go to the default route, or nowhere"),
    ("route-shadowed", "the kernel takes another route to these pods than the fabric's"),
    (
        "rule-diverts",
        "a rule before table main may lead pods' packets elsewhere, whatever routes there are",
    ),
    ("next-hop-unreachable", "the pods of these nodes cannot be reached from here"),
    (
        "mtu-too-large",
        "larger packets are dropped on the way, and where ICMP is filtered nobody learns of it: \
              connections are made, and hang with the first large answer",
    ),
    (
        "mtu-mismatch",
        "the two ends of a path should agree: what one sends at its MTU the other drops, or \
              packets are smaller than they need be",
    ),
    (
        "pool-overlap",
        "the same address may be given to two pods, and one of them gets the other's packets",
    ),
    ("pool-outside-pod-cidr", "no other node has a route to pods with these addresses"),
    ("pool-full", "the next pod gets no address and does not start"),
    ("lease-missing", "the address of a live pod may be given to another one"),
    ("lease-leaked", "nobody has the address, and no other pod gets it"),
    (
        "masquerade-lost",
        "these rules give pods' packets the node's address, drop what pods send in others' \
              names, and keep what strangers send out of the tunnels",
    ),
    ("sysctl-drift", "a parameter that was set for the pods has another value by now"),
    ("route-stale", "packets to pods that are elsewhere by now follow it"),
    ("version-skew", "who wrote the file asks for something that this version does not do"),
    ("conntrack-full", "a full table of connections drops the first packet of each new one"),
    (
        "conntrack-drops",
        "a connection whose entry is refused, or lost, hangs: its packets are dropped, or not \
              translated any more",
    ),
    (
        "backlog-drops",
        "packets to and from pods wait in these queues, and are lost where one is full",
    ),
    (
        "cpu-steal",
        "packets wait as long as the processors are away: what looks like a slow network",
    ),
    (
        "softirq-share",
        "one processor serves the packets of a queue: at its limit they wait or are lost",
    ),
    (
        "rules-long",
        "the first packet of each connection, or every packet, is compared with rule after rule",
    ),
    (
        "tunnel-offload",
        "answers to ping come through such a tunnel, and connections hang, often for a minute",
    ),
    ("source-check-drops", "a pod sends in another's name, or for others without leave"),
    ("module-missing", "without it the kernel makes no such device, or keeps no connections"),
    (
        "link-unmanaged",
        "a daemon that manages all links may take addresses and routes off pods' links",
    ),
    ("path-mtu", "packets that are larger than a link on the way takes are lost"),
    (
        "protocol-filtered",
        "a network between nodes may drop the protocol of the tunnels, or sources that it does \
              not know",
    ),
    ("peer-unreachable", "what does not answer here may not be reached by pods either"),
    (
        "fabric-remark",
        "packets to other nodes take another way, or are smaller, than one may expect",
    ),
    ("configuration-doubtful", "it has no effect, or another one than was probably meant"),
    (
        "former-agent",
        "the agent of another plugin makes of the node what its own configuration says",
    ),
    (
        "calico-dataplane",
        "pods are reached by more than routes, and what is not taken over drops or hides packets",
    ),
    ("configuration-missing", "new pods stay with the plugin whose configuration is there"),
    (
        "calico-chains",
        "calico-node leaves its rules behind, which no pod passes that came after it went",
    ),
    ("former-chains", "pods behind the bridge leave the node with its address by these rules"),
    (
        "policy-unenforced",
        "what no NetworkPolicy allows is dropped where they are enforced, and passes where not",
    ),
    (
        "network-unavailable",
        "the condition keeps new pods from the node, and who set it does not take it away any more",
    ),
    ("route-orphaned", "the pods of these networks could not be reached from here any more"),
    ("sources-lost", "these pods send for others, by leave of an annotation that Felix followed"),
    ("node-schedulable", "a pod that comes under way may be noted late, or not at all"),
    ("pool-unknown", "the addresses of pods that live would be given to new ones"),
    (
        "former-rules-unread",
        "what nobody sees is not removed, and drops what comes from the links of new pods",
    ),
    ("pod-unknown", "such a pod is not masqueraded and not looked after, and has no entry for DEL"),
    (
        "former-bridge",
        "its pods take the others of their subnet for neighbours behind the same bridge",
    ),
    ("lease-out-of-range", "the address is given out no more"),
];

/// Why it matters what the check of this name finds.
pub fn why(id: &str) -> &'static str {
    CHECKS.iter().find(|(known, _)| *known == id).map_or("", |(_, why)| why)
}
