// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * For the sender's end of a veth: chooses the transmit queue of TCP, and so the receive queue at the other end, by the symmetric hash by
 * which the stack divides connections between its shards. A NIC with RSS does so by itself.
 *
 * The hash is Toeplitz with a key that repeats every 16 bits (src/owner.rs), so it is that of all 16-bit words XORed. The kernel takes a
 * recorded queue, which is what is written here, for the queue of a flow that has none yet.
 */
#include "steer.h"
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NET16(x) ((__be16)__builtin_bswap16(x))
#else
#define NET16(x) ((__be16)(x))
#endif

enum {
	KEY = 0x6d5a6d5a,
	ENTRIES = 256, /* of the table: entry modulo queues is the queue */
	TC_ACT_OK = 0,
};

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u32);
} queues SEC(".maps");

/* XOR of `count` 16-bit words. */
static ALWAYS_INLINE __u16 folded(const void *bytes, int count)
{
	const __u16 *words = bytes;
	__u16 sum = 0;

#pragma unroll
	for (int i = 0; i < count; i++)
		sum ^= words[i];
	return sum;
}

static ALWAYS_INLINE __u32 toeplitz(__u16 word)
{
	__u32 hash = 0;

#pragma unroll
	for (int bit = 0; bit < 16; bit++)
		if (word & (0x8000 >> bit))
			hash ^= bit ? (__u32)KEY << bit | (__u32)KEY >> (32 - bit) : (__u32)KEY;
	return hash;
}

SEC("classifier") int spread(struct __sk_buff *skb)
{
	const void *data = (const void *)(long)skb->data, *end = (const void *)(long)skb->data_end;
	const struct ethhdr *ethernet = data;
	const struct iphdr *v4 = (const void *)(ethernet + 1);
	const struct ipv6hdr *v6 = (const void *)(ethernet + 1);
	__u32 only = 0;
	__u16 word;

	if ((const void *)(ethernet + 1) > end)
		return TC_ACT_OK;
	if (ethernet->h_proto == NET16(ETH_P_IP)) {
		if ((const void *)(v4 + 1) + 4 > end || v4->ihl != 5 || v4->protocol != IPPROTO_TCP)
			return TC_ACT_OK;
		word = folded(&v4->saddr, 4) ^ folded(v4 + 1, 2);
	} else if (ethernet->h_proto == NET16(ETH_P_IPV6)) {
		if ((const void *)(v6 + 1) + 4 > end || v6->nexthdr != IPPROTO_TCP)
			return TC_ACT_OK;
		word = folded(&v6->saddr, 16) ^ folded(v6 + 1, 2);
	} else {
		return TC_ACT_OK;
	}
	__u32 *count = map_lookup(&queues, &only);
	if (count && *count)
		skb->queue_mapping = toeplitz(NET16(word)) % ENTRIES % *count + 1;
	return TC_ACT_OK;
}

char spread_license[] SEC("license") = "Dual BSD/GPL";
