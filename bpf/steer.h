/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the XDP program counts, looks up and calls. build.rs reads the verdict lists from here: they stand nowhere else. */
#ifndef SYNFIN_STEER_H
#define SYNFIN_STEER_H

#include <linux/bpf.h>
#include <linux/types.h>

/* Verdicts that hand the frame to the XSK of its receive queue. V(name, meaning) */
#define STEER_REDIRECTS(V) \
	V(redirect_tcp_own, "TCP to an owned address.") \
	V(redirect_tcp_port, "TCP to a claimed port.") \
	V(redirect_arp, "ARP whose target is an owned address, or whose sender is and whose target is not shared.") \
	V(redirect_ndp, "A neighbour solicitation for an owned address, an advertisement to one, or of one to a group.") \
	V(redirect_echo, "An ICMP or ICMPv6 echo request to an owned address.") \
	V(redirect_icmp_error, "An ICMP or ICMPv6 error to an owned address, or one that quotes TCP from a claimed port.") \
	V(redirect_fragment, "A fragment to an owned address, or a first fragment to a claimed port: the stack drops and counts it.") \
	V(redirect_extension, "More IPv6 extension headers than are walked, to an owned address: the stack drops and counts it.")

/* Verdicts that leave the frame to the kernel. */
#define STEER_PASSES(V) \
	V(pass_no_socket, "Ours, but no XSK is in the slot of its receive queue.") \
	V(pass_truncated, "Ends before what would decide it.") \
	V(pass_ether_type, "Neither IPv4, IPv6 nor ARP, or behind more than one VLAN tag.") \
	V(pass_vlan, "Of another VLAN than the stack's, or untagged where the stack has one.") \
	V(pass_malformed, "An IP header whose version or length contradicts itself, or ARP that is not Ethernet and IPv4.") \
	V(pass_unclaimed, "TCP to an address and port that nobody claimed.") \
	V(pass_arp, "ARP for an address that is not owned, unless its sender is and the address is not shared.") \
	V(pass_icmp, "ICMP or ICMPv6 that concerns nothing claimed.") \
	V(pass_protocol, "Neither TCP nor ICMP.") \
	V(pass_fragment, "A fragment to an address that is not owned, and not the first to a claimed port.") \
	V(pass_extension, "More IPv6 extension headers than are walked, to an address that is not owned.")

#define STEER_NAME(name, meaning) name,
enum verdict {
	STEER_REDIRECTS(STEER_NAME)
	STEER_PASSES(STEER_NAME)
	VERDICT_COUNT,
};
#undef STEER_NAME

/* Keys of the longest-prefix maps `own_v4` and `own_v6`: length in bits, then the address as on the wire. */
struct own_v4_key {
	__u32 prefix_bits;
	__u8 address[4];
};

struct own_v6_key {
	__u32 prefix_bits;
	__u8 address[16];
};

/* Their value. The longest match decides, so an owned prefix may have shared addresses in it. */
#define CLAIM_OWN 1
#define CLAIM_SHARED 2

/* Key of the map `ports`: IPv4 as ::ffff:a.b.c.d, all zeros for every address; the port as on the wire. */
struct port_key {
	__u8 address[16];
	__be16 port;
};

/* The only entry of the map `vlan`: the VLAN ID that the stack is on, 0 for untagged frames. */
#define VLAN_KEY 0
#define VLAN_ID_BITS 0x0fff

#define QUEUES_MAX 256
#define OWN_PREFIXES_MAX 4096
#define PORTS_MAX 131072

/* IPv6 extension headers that are walked, a fragment header included. More cost time and carry no TCP worth having. */
#define EXTENSIONS_MAX 4

/* What libbpf's headers would declare, so that they need not be installed. */
#define SEC(name) __attribute__((section(name), used))
#define MAP_NUMBER(name, value) int(*name)[value]
#define MAP_TYPE(name, type) typeof(type) *name
#define ALWAYS_INLINE inline __attribute__((always_inline))

static void *(*const map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const redirect_map)(void *map, __u64 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;

#endif
