// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Which frames belong to the stack. Everything else stays with the kernel.
 *
 *   owned address (prefix maps own_v4, own_v6): TCP, ARP and NDP for it, echo requests, ICMP errors, fragments
 *   shared address: TCP to a claimed port (map ports), ICMP errors that quote TCP from one
 *
 * IPv4 options are walked. Up to EXTENSIONS_MAX IPv6 extension headers are walked; with more, the frame goes to the
 * stack if its address is owned, else to the kernel. Fragments go to the stack if their address is owned; of those to
 * shared addresses only a first fragment to a claimed port does, so that the kernel cannot reassemble the segment and
 * answer RST for a port it does not have. The stack takes no fragments: it drops and counts them. A frame of another VLAN
 * than the stack's (map vlan) is the kernel's, whatever it is to; a tag with ID 0 only bears a priority (802.1Q), as no
 * tag does. A frame that is ours goes to the XSK of its receive queue; where none is, the kernel keeps it.
 *
 * Only packet bytes are read, so no kernel type information is needed to load this.
 */
#include "steer.h"
#include <linux/if_ether.h>
#include <linux/icmpv6.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NET16(x) ((__be16)__builtin_bswap16(x))
#else
#define NET16(x) ((__be16)(x))
#endif

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_XSKMAP);
	MAP_NUMBER(max_entries, QUEUES_MAX);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u32);
} xsks SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, VERDICT_COUNT);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
} verdicts SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_LPM_TRIE);
	MAP_NUMBER(max_entries, OWN_PREFIXES_MAX);
	MAP_NUMBER(map_flags, BPF_F_NO_PREALLOC);
	MAP_TYPE(key, struct own_v4_key);
	MAP_TYPE(value, __u32);
} own_v4 SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_LPM_TRIE);
	MAP_NUMBER(max_entries, OWN_PREFIXES_MAX);
	MAP_NUMBER(map_flags, BPF_F_NO_PREALLOC);
	MAP_TYPE(key, struct own_v6_key);
	MAP_TYPE(value, __u32);
} own_v6 SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_HASH);
	MAP_NUMBER(max_entries, PORTS_MAX);
	MAP_NUMBER(map_flags, BPF_F_NO_PREALLOC);
	MAP_TYPE(key, struct port_key);
	MAP_TYPE(value, __u8);
} ports SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u32);
} vlan SEC(".maps");

struct vlan_tag {
	__be16 control;
	__be16 type;
};

struct arp_ipv4 {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_bytes;
	__u8 protocol_bytes;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target[4];
};

struct tcp_ports {
	__be16 source;
	__be16 dest;
};

struct icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 rest;
};

enum {
	ICMP_UNREACHABLE = 3,
	ICMP_ECHO_REQUEST = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETER_PROBLEM = 12,
	ICMPV6_SOLICITATION = 135,
	ICMPV6_ADVERTISEMENT = 136,
};

/* ICMPv6 with what NDP solicitations and advertisements carry first. */
struct ndp {
	struct icmp6hdr header;
	struct in6_addr target;
};

struct extension {
	__u8 next;
	__u8 length; /* of the header, in 8 bytes, less one */
	__be16 fragment; /* in a fragment header: offset in the upper 13 bits, M in the lowest */
};

static ALWAYS_INLINE int owned_v4(const void *address)
{
	struct own_v4_key key = { .prefix_bits = 32 };

	__builtin_memcpy(key.address, address, sizeof(key.address));
	__u32 *claim = map_lookup(&own_v4, &key);
	return claim && *claim == CLAIM_OWN;
}

static ALWAYS_INLINE int shared_v4(const void *address)
{
	struct own_v4_key key = { .prefix_bits = 32 };

	__builtin_memcpy(key.address, address, sizeof(key.address));
	__u32 *claim = map_lookup(&own_v4, &key);
	return claim && *claim == CLAIM_SHARED;
}

static ALWAYS_INLINE int owned_v6(const struct in6_addr *address)
{
	struct own_v6_key key = { .prefix_bits = 128 };

	__builtin_memcpy(key.address, address, sizeof(key.address));
	__u32 *claim = map_lookup(&own_v6, &key);
	return claim && *claim == CLAIM_OWN;
}

static ALWAYS_INLINE int equal_v6(const struct in6_addr *a, const struct in6_addr *b)
{
	const __u32 *x = a->s6_addr32, *y = b->s6_addr32;

	return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3])) == 0;
}

static ALWAYS_INLINE int claimed(struct port_key *key)
{
	if (map_lookup(&ports, key))
		return 1;
	__builtin_memset(key->address, 0, sizeof(key->address));
	return map_lookup(&ports, key) != 0;
}

static ALWAYS_INLINE int claimed_v4(const void *address, __be16 port)
{
	struct port_key key = { .address = { [10] = 0xff, [11] = 0xff }, .port = port };

	__builtin_memcpy(key.address + 12, address, 4);
	return claimed(&key);
}

static ALWAYS_INLINE int claimed_v6(const struct in6_addr *address, __be16 port)
{
	struct port_key key = { .port = port };

	__builtin_memcpy(key.address, address, sizeof(key.address));
	return claimed(&key);
}

static ALWAYS_INLINE enum verdict judge_arp(const struct arp_ipv4 *arp, const void *end)
{
	if ((const void *)(arp + 1) > end)
		return pass_truncated;
	if (arp->hardware != NET16(1) || arp->protocol != NET16(ETH_P_IP) || arp->hardware_bytes != ETH_ALEN ||
	    arp->protocol_bytes != sizeof(arp->target))
		return pass_malformed;
	/* A sender with an owned address has a conflict with the stack; the target of its answer to a probe is 0.0.0.0. Where a
	   whole network is owned, what its hosts tell the kernel stays the kernel's. */
	if (owned_v4(arp->target) || (owned_v4(arp->sender) && !shared_v4(arp->target)))
		return redirect_arp;
	return pass_arp;
}

/* Whether an ICMP error quotes TCP that left `source` from a claimed port. */
static ALWAYS_INLINE int quotes_claimed_v4(const struct iphdr *quoted, const void *end, __be32 source)
{
	if ((const void *)(quoted + 1) > end)
		return 0;
	__u32 header_bytes = quoted->ihl * 4;
	if (quoted->version != 4 || header_bytes < sizeof(*quoted) || quoted->protocol != IPPROTO_TCP ||
	    quoted->saddr != source || quoted->frag_off & NET16(0x1fff))
		return 0;
	const struct tcp_ports *tcp = (const void *)quoted + header_bytes;
	return (const void *)(tcp + 1) <= end && claimed_v4(&quoted->saddr, tcp->source);
}

static ALWAYS_INLINE enum verdict judge_icmp(const struct icmp *icmp, const void *end, const struct iphdr *ip, int own)
{
	if ((const void *)(icmp + 1) > end)
		return pass_truncated;
	switch (icmp->type) {
	case ICMP_ECHO_REQUEST:
		return own ? redirect_echo : pass_icmp;
	case ICMP_UNREACHABLE:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETER_PROBLEM:
		if (own || quotes_claimed_v4((const void *)(icmp + 1), end, ip->daddr))
			return redirect_icmp_error;
		return pass_icmp;
	default:
		return pass_icmp;
	}
}

static ALWAYS_INLINE enum verdict judge_ipv4(const struct iphdr *ip, const void *end)
{
	if ((const void *)(ip + 1) > end)
		return pass_truncated;
	__u32 header_bytes = ip->ihl * 4;
	if (ip->version != 4 || header_bytes < sizeof(*ip))
		return pass_malformed;
	int own = owned_v4(&ip->daddr);
	int fragment = (ip->frag_off & NET16(0x3fff)) != 0; /* M or an offset */
	if (fragment && own)
		return redirect_fragment;
	if (ip->frag_off & NET16(0x1fff))
		return pass_fragment;

	const void *payload = (const void *)ip + header_bytes;
	if (ip->protocol == IPPROTO_TCP) {
		if (own)
			return redirect_tcp_own;
		const struct tcp_ports *tcp = payload;
		if ((const void *)(tcp + 1) > end)
			return pass_truncated;
		if (claimed_v4(&ip->daddr, tcp->dest))
			return fragment ? redirect_fragment : redirect_tcp_port;
		return fragment ? pass_fragment : pass_unclaimed;
	}
	if (fragment)
		return pass_fragment;
	return ip->protocol == IPPROTO_ICMP ? judge_icmp(payload, end, ip, own) : pass_protocol;
}

/* As quotes_claimed_v4. The stack sends no extension headers, so none are looked for. */
static ALWAYS_INLINE int quotes_claimed_v6(const struct ipv6hdr *quoted, const void *end, const struct in6_addr *source)
{
	const struct tcp_ports *tcp = (const void *)(quoted + 1);

	if ((const void *)(tcp + 1) > end)
		return 0;
	if (quoted->version != 6 || quoted->nexthdr != IPPROTO_TCP || !equal_v6(&quoted->saddr, source))
		return 0;
	return claimed_v6(&quoted->saddr, tcp->source);
}

static ALWAYS_INLINE enum verdict judge_icmpv6(const struct icmp6hdr *icmp, const void *end, const struct ipv6hdr *ip,
					       int own)
{
	const struct ndp *ndp = (const void *)icmp;

	if ((const void *)(icmp + 1) > end)
		return pass_truncated;
	switch (icmp->icmp6_type) {
	case ICMPV6_ECHO_REQUEST:
		return own ? redirect_echo : pass_icmp;
	case ICMPV6_SOLICITATION: /* mostly to a multicast address */
		if ((const void *)(ndp + 1) > end)
			return pass_truncated;
		return owned_v6(&ndp->target) ? redirect_ndp : pass_icmp;
	case ICMPV6_ADVERTISEMENT: /* to all nodes where it tells of a conflict */
		if (own)
			return redirect_ndp;
		if ((const void *)(ndp + 1) > end)
			return pass_truncated;
		return ip->daddr.s6_addr[0] == 0xff && owned_v6(&ndp->target) ? redirect_ndp : pass_icmp;
	case ICMPV6_DEST_UNREACH:
	case ICMPV6_PKT_TOOBIG:
	case ICMPV6_TIME_EXCEED:
	case ICMPV6_PARAMPROB:
		if (own || quotes_claimed_v6((const void *)(icmp + 1), end, &ip->daddr))
			return redirect_icmp_error;
		return pass_icmp;
	default:
		return pass_icmp;
	}
}

/* Where the walk over the extension headers has come to. */
struct walk {
	const void *at;
	__u8 next; /* the protocol or header at `at` */
	__u8 fragment; /* a fragment header was passed */
	__u8 later; /* and it was not the first fragment's */
	__u8 truncated;
};

static ALWAYS_INLINE int is_extension(__u8 next)
{
	return next == IPPROTO_FRAGMENT || next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS;
}

static ALWAYS_INLINE void walk_extensions(struct walk *walk, const void *end)
{
#pragma unroll
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		const struct extension *extension = walk->at;
		int is_fragment = walk->next == IPPROTO_FRAGMENT;

		if (!is_extension(walk->next))
			return;
		if ((const void *)(extension + 1) > end) {
			walk->truncated = 1;
			return;
		}
		walk->next = extension->next;
		if (is_fragment) {
			walk->fragment = 1;
			if (extension->fragment & NET16(0xfff8)) {
				walk->later = 1;
				return;
			}
			walk->at += 8;
		} else {
			walk->at += (extension->length + 1) * 8;
		}
	}
}

static ALWAYS_INLINE enum verdict judge_ipv6(const struct ipv6hdr *ip, const void *end)
{
	if ((const void *)(ip + 1) > end)
		return pass_truncated;
	if (ip->version != 6)
		return pass_malformed;
	int own = owned_v6(&ip->daddr);
	struct walk walk = { .at = ip + 1, .next = ip->nexthdr };

	walk_extensions(&walk, end);
	if (walk.truncated)
		return pass_truncated;
	if (walk.fragment && own)
		return redirect_fragment;
	if (walk.later)
		return pass_fragment;
	if (is_extension(walk.next))
		return own ? redirect_extension : pass_extension;

	if (walk.next == IPPROTO_TCP) {
		if (own)
			return redirect_tcp_own;
		const struct tcp_ports *tcp = walk.at;
		if ((const void *)(tcp + 1) > end)
			return pass_truncated;
		if (claimed_v6(&ip->daddr, tcp->dest))
			return walk.fragment ? redirect_fragment : redirect_tcp_port;
		return walk.fragment ? pass_fragment : pass_unclaimed;
	}
	if (walk.fragment)
		return pass_fragment;
	return walk.next == IPPROTO_ICMPV6 ? judge_icmpv6(walk.at, end, ip, own) : pass_protocol;
}

/* Whether the stack is on the VLAN with that ID. */
static ALWAYS_INLINE int is_our_vlan(__u32 id)
{
	__u32 key = VLAN_KEY;
	__u32 *ours = map_lookup(&vlan, &key);

	return ours && *ours == id;
}

static ALWAYS_INLINE enum verdict judge(const void *data, const void *end)
{
	const struct ethhdr *ethernet = data;
	const void *payload = ethernet + 1;

	if (payload > end)
		return pass_truncated;
	__be16 type = ethernet->h_proto;
	__u32 id = 0;
	if (type == NET16(ETH_P_8021Q)) {
		const struct vlan_tag *tag = payload;
		payload = tag + 1;
		if (payload > end)
			return pass_truncated;
		type = tag->type;
		id = NET16(tag->control) & VLAN_ID_BITS;
	}
	if (type == NET16(ETH_P_8021Q) || type == NET16(ETH_P_8021AD))
		return pass_ether_type;
	if (!is_our_vlan(id))
		return pass_vlan;
	switch (type) {
	case NET16(ETH_P_IP):
		return judge_ipv4(payload, end);
	case NET16(ETH_P_IPV6):
		return judge_ipv6(payload, end);
	case NET16(ETH_P_ARP):
		return judge_arp(payload, end);
	default:
		return pass_ether_type;
	}
}

SEC("xdp") int steer(struct xdp_md *ctx)
{
	__u32 verdict = judge((const void *)(long)ctx->data, (const void *)(long)ctx->data_end);
	int action = XDP_PASS;

	if (verdict < pass_no_socket) { /* the redirects come first */
		action = redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS);
		if (action != XDP_REDIRECT)
			verdict = pass_no_socket;
	}
	__u64 *count = map_lookup(&verdicts, &verdict);
	if (count)
		*count += 1;
	return action;
}

char steer_license[] SEC("license") = "Dual BSD/GPL";
