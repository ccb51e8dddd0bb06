// The verb same: sends random encapsulated segments into a forwarder, and compares each with the packet that comes out.
// The flows have all modes, TCP and UDP, in bursts that could be coalesced, with losses, duplicates, reordering, wrong
// checksums and every header change that ends a run. Each expected packet must arrive byte by byte (a router lowers the
// TTL by one), and a flow must keep its order. --lossy: packets may be missing, but none may be late.
#define _GNU_SOURCE
#include "lab.h"
#include "frame.h"
#include "wire.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FLOWS = 32, SOURCES = FLOWS / 2, WINDOW = 512, FRAME_MAX = 1600, TCP_ACK = 0x10, TCP_PSH = 8 };

// What must arrive, in the order it was sent.
struct expected {
	struct expected *next;
	int flow;
	size_t length;
	uint8_t bytes[FRAME_MAX];
};

// Two flows of a source differ in their ports alone.
static struct flow {
	enum mode mode;
	bool tcp, fixed_id;
	int id, oddity;
	uint32_t sequence, label;
	uint16_t identification, fragment;
	size_t size, option_bytes;
	uint8_t options[40], traffic_class;
	uint64_t digest;
} flows[FLOWS];

static struct { struct expected *first, **end; } waiting[SOURCES];
static struct expected *unused;
static int outstanding;
static uint64_t state;
static bool lossy;
static struct { uint64_t sent, delivered, missing, damaged, refused, lost, doubled, swapped; } count;

static uint64_t next_random(void) { return mixed(state += 0x9e3779b97f4a7c15); }
static uint32_t below(uint32_t n) { return (next_random() >> 32) * n >> 32; }
static bool one_in(uint32_t n) { return below(n) == 0; }

static void put32(uint8_t *at, uint32_t value) { put16(at, value >> 16), put16(at + 2, value); }

static void start_flow(struct flow *f, int id)
{
	*f = (struct flow){ .mode = id % MODES, .tcp = id / MODES % 2, .id = id };
	static const size_t sizes[] = { 1, 8, 27, 100, 101, 536, 1300 };
	static const int oddities[] = { 4, 20, 100, 1000 };
	f->size = sizes[below(7)], f->oddity = oddities[below(4)];
	// Siblings agree in what would else tell them apart.
	f->sequence = 7 * id, f->label = 0x1234, f->identification = -20;
	f->fragment = one_in(4) ? 0 : 0x4000;
	f->fixed_id = one_in(6);
	f->traffic_class = one_in(3) ? below(64) << 2 | below(3) : 0;
	if (one_in(2)) {
		memcpy(f->options, "\1\1\10\12tsvaltsec", 12);
		f->option_bytes = 12;
	}
}

// What is out of the ordinary in one packet, or from it on.
struct oddity { uint16_t checksum_add, checksum_is, length_add, fragment, urgent; bool checksum_set, extension, ip_sum;
	uint8_t ttl, flags, class_xor, label_xor, ip_options; uint32_t acknowledgement, window; };

static struct oddity odd(struct flow *f)
{
	struct oddity o = { .ttl = 64, .flags = TCP_ACK, .window = 0xfaf0, .fragment = f->fragment };
	if (one_in(8))
		o.flags |= TCP_PSH;
	if (!one_in(f->oddity))
		return o;
	switch (below(18)) {
	case 0: case 1: case 2: o.checksum_add = 1 + below(0xfffe), count.damaged++; break;
	case 3: o.checksum_set = true, o.checksum_is = one_in(2) ? 0 : 0xffff; break;
	case 4: o.ttl = 2 + below(254); break;
	case 5: o.class_xor = 4 << below(6); break;
	case 6: o.flags = below(256); break;
	case 7: o.acknowledgement = 1; break;
	case 8: o.window = below(0x10000); break;
	case 9: f->option_bytes = 4 * below(11); for (int i = 0; i < 40; i++) f->options[i] = 1 + below(2) * 252; break;
	case 10: f->identification = below(0x10000); break;
	case 11: f->sequence += 1 + below(2000), count.lost++; break;
	case 12: f->sequence += f->size, f->identification++, count.lost++; break;
	case 13: if (inner_is6(f->mode)) o.extension = true; else o.ip_options = 4; break;
	case 14: o.fragment = below(2) << 13 | below(3); break;
	case 15: if (!f->tcp) o.length_add = below(60) - 30; else o.urgent = below(99); break;
	case 16: o.label_xor = 1; break;
	default: o.ip_sum = true; break;
	}
	return o;
}

// Writes the transport header and the payload; returns their length.
static size_t transport(struct flow *f, const struct oddity *o, uint8_t *at, uint64_t pseudo)
{
	size_t header = f->tcp ? 20 + f->option_bytes : UDP, payload = one_in(16) ? below(f->size + 2) : f->size;
	size_t length = header + payload;
	put16(at, 4000 + f->id / SOURCES);
	put16(at + 2, DISCARD_PORT);
	if (f->tcp) {
		put32(at + 4, f->sequence), put32(at + 8, 99 + o->acknowledgement);
		at[12] = header << 2, at[13] = o->flags;
		put16(at + 14, o->window), put16(at + 16, 0), put16(at + 18, o->urgent);
		memcpy(at + 20, f->options, f->option_bytes);
		f->sequence += payload;
	} else {
		put16(at + 4, length + o->length_add), put16(at + 6, 0);
	}
	uint64_t value = next_random();
	for (size_t i = 0; i < payload; i++)
		at[header + i] = value >> i % 8 * 8, value += i % 8 == 7;
	uint16_t sum = ~folded(words(pseudo + length + (f->tcp ? IPPROTO_TCP : IPPROTO_UDP), at, length));
	sum = sum || f->tcp ? sum : 0xffff;
	put16(at + (f->tcp ? 16 : 6), o->checksum_set ? o->checksum_is : sum + o->checksum_add);
	return length;
}

// Writes an inner packet; returns its length.
static size_t inner(struct flow *f, const struct oddity *o, uint8_t *at)
{
	bool six = inner_is6(f->mode);
	uint8_t to[16], source = 64 + f->id % SOURCES, class = f->traffic_class ^ o->class_xor;
	address(mode_vip(f->mode), to);
	if (six) {
		memcpy(at + 8, "\x20\x01\x0d\xb8\0\x0c\0\0\0\0\0\0\0\0\0", 15);
		at[23] = source;
		memcpy(at + 24, to, 16);
		size_t more = o->extension ? 8 : 0;
		// A destination header of padding alone.
		memcpy(at + IPV6, (uint8_t[8]){ f->tcp ? IPPROTO_TCP : IPPROTO_UDP, 0, 1, 4 }, more);
		size_t length = more + transport(f, o, at + IPV6 + more, words(0, at + 8, 32));
		put32(at, 0x60000000 | class << 20 | (f->label ^ o->label_xor));
		put16(at + 4, length);
		at[6] = more ? IPPROTO_DSTOPTS : f->tcp ? IPPROTO_TCP : IPPROTO_UDP;
		at[7] = o->ttl;
		return IPV6 + length;
	}
	size_t header = IPV4 + o->ip_options;
	memcpy(at + 12, (uint8_t[4]){ 198, 51, 100, source }, 4);
	memcpy(at + 16, to + 12, 4);
	memset(at + IPV4, 1, o->ip_options);
	size_t length = header + transport(f, o, at + header, words(0, at + 12, 8));
	at[0] = 0x40 | header / 4, at[1] = class;
	put16(at + 2, length), put16(at + 4, f->identification), put16(at + 6, o->fragment);
	f->identification += !f->fixed_id;
	at[8] = o->ttl, at[9] = f->tcp ? IPPROTO_TCP : IPPROTO_UDP;
	put16(at + 10, 0);
	put16(at + 10, ~folded(words(0, at, header)) + o->ip_sum);
	return length;
}

// Wraps what stands at `at` in what stands before it.
static uint8_t *wrap(uint8_t *at, size_t length, enum mode mode)
{
	uint8_t from[16], to[16], protocol = inner_is6(mode) ? IPPROTO_IPV6 : IPPROTO_IPIP;
	bool six = outer_is6(mode);
	address(six ? BALANCER6 : BALANCER4, from), address(six ? NODE6 : NODE4, to);
	if (six) {
		at -= IPV6;
		put32(at, 0x60000000), put16(at + 4, length);
		at[6] = protocol, at[7] = 64;
		memcpy(at + 8, from, 16), memcpy(at + 24, to, 16);
	} else {
		at -= IPV4;
		memcpy(at, (uint8_t[12]){ 0x45, 0, (length + IPV4) >> 8, length + IPV4, 0, 0, 0x40, 0, 64, protocol }, 12);
		memcpy(at + 12, from + 12, 4), memcpy(at + 16, to + 12, 4);
		put16(at + 10, ~folded(words(0, at, IPV4)));
	}
	at -= ETHERNET;
	memcpy(at, "\2\0\0\0\2\2\2\0\0\0\2\1", 12);
	put16(at + 12, six ? 0x86dd : 0x0800);
	return at;
}

// Notes that a packet must arrive: as it was sent, but for what a router changes.
static struct expected *expect(int flow, const uint8_t *packet, size_t length)
{
	struct expected *e = unused;
	if (e)
		unused = e->next;
	else if (!(e = malloc(sizeof *e)))
		fail("out of memory");
	e->next = NULL, e->flow = flow, e->length = length;
	memcpy(e->bytes, packet, length);
	if (packet[0] >> 4 == 4) {
		e->bytes[8]--;
		put16(e->bytes + 10, 0);
		put16(e->bytes + 10, ~folded(words(0, e->bytes, (packet[0] & 15) * 4)));
	} else {
		e->bytes[7]--;
	}
	return e;
}

static void append(struct expected *e)
{
	int source = e->flow % SOURCES;
	if (!waiting[source].first)
		waiting[source].end = &waiting[source].first;
	*waiting[source].end = e;
	waiting[source].end = &e->next;
	outstanding++;
}

// A frame on its way out, and what it must become; nothing, where the inner header is damaged.
struct outgoing { uint8_t room[FRAME_MAX + 128], *frame; size_t length; struct expected *expected; };

static void make(struct flow *f, struct outgoing *out)
{
	uint8_t *at = out->room + 128;
	struct oddity o = odd(f);
	size_t length = inner(f, &o, at);
	bool refused = o.ip_sum && !inner_is6(f->mode);
	count.refused += refused;
	out->expected = refused ? NULL : expect(f->id, at, length);
	out->frame = wrap(at, length, f->mode);
	out->length = at + length - out->frame;
}

// One call for a window: bursts of some flows in turn, some packets twice, some changed with the one before.
static int window(struct outgoing *out, int most)
{
	int n = 0;
	while (n < most) {
		struct flow *f = &flows[below(FLOWS)];
		for (int burst = 1 + below(1 + below(64)); burst > 0 && n < most; burst--) {
			make(f, &out[n++]);
			if (one_in(100) && n < most && out[n - 1].expected) {
				struct outgoing *twice = &out[n++];
				memcpy(twice->room, twice[-1].room, sizeof twice->room);
				twice->frame = twice->room + (twice[-1].frame - twice[-1].room), twice->length = twice[-1].length;
				twice->expected = malloc(sizeof *twice->expected);
				if (!twice->expected)
					fail("out of memory");
				*twice->expected = *twice[-1].expected;
				count.doubled++;
			}
			if (one_in(100) && n > 1) {
				static struct outgoing other;
				ptrdiff_t a = out[n - 1].frame - out[n - 1].room, b = out[n - 2].frame - out[n - 2].room;
				other = out[n - 1], out[n - 1] = out[n - 2], out[n - 2] = other;
				out[n - 1].frame = out[n - 1].room + b, out[n - 2].frame = out[n - 2].room + a;
				count.swapped++;
			}
		}
	}
	return n;
}

static void show(const char *what, const uint8_t *bytes, size_t length)
{
	fprintf(stderr, "%s, %zu bytes:", what, length);
	for (size_t i = 0; i < length && i < 120; i++)
		fprintf(stderr, "%s%02x", i % 4 ? "" : " ", bytes[i]);
	fputc('\n', stderr);
}

// Takes the packet that `link` leads to off its source's list.
static void settle(struct expected **link)
{
	struct expected *e = *link;
	*link = e->next;
	if (!e->next)
		waiting[e->flow % SOURCES].end = link;
	e->next = unused, unused = e;
	outstanding--;
}

// Earlier packets of the flow of `e` should have come before it.
static void missed(const struct expected *e)
{
	for (struct expected **link = &waiting[e->flow % SOURCES].first; *link != e;) {
		if ((*link)->flow != e->flow) {
			link = &(*link)->next;
			continue;
		}
		if (!lossy) {
			show("arrived", e->bytes, e->length);
			show("expected first", (*link)->bytes, (*link)->length);
			fail("out of order, after %llu", (unsigned long long)count.delivered);
		}
		count.missing++;
		settle(link);
	}
}

// Takes what arrived off its list; whatever is wrong with it ends the program.
static void arrived(const uint8_t *bytes, size_t length)
{
	int source = bytes[bytes[0] >> 4 == 6 ? 23 : 15] - 64;
	if (source < 0 || source >= SOURCES)
		return;   // somebody else's
	struct expected *e = waiting[source].first, **link = &waiting[source].first;
	while (e && (e->length != length || memcmp(e->bytes, bytes, length)))
		e = e->next;
	if (!e) {
		show("arrived", bytes, length);
		if (*link)
			show("expected first", (*link)->bytes, (*link)->length);
		fail("a packet that nobody sent, or late, after %llu", (unsigned long long)count.delivered);
	}
	missed(e);
	uint64_t *digest = &flows[e->flow].digest;
	for (size_t i = 0; i < length; i++)   // FNV-1a
		*digest = (*digest ^ bytes[i]) * 0x100000001b3;
	while (*link != e)
		link = &(*link)->next;
	settle(link);
	count.delivered++;
}

// What has not come by now does not come.
static void give_up(void)
{
	for (int s = 0; s < SOURCES; s++)
		while (waiting[s].first) {
			if (!lossy) {
				show("missing", waiting[s].first->bytes, waiting[s].first->length);
				fail("%d packets did not arrive, after %llu", outstanding, (unsigned long long)count.delivered);
			}
			count.missing++;
			settle(&waiting[s].first);
		}
}

static void drain(int fd)
{
	static uint8_t room[64][65536];
	struct iovec pieces[64];
	struct mmsghdr messages[64] = {};
	for (int i = 0; i < 64; i++) {
		pieces[i] = (struct iovec){ room[i], sizeof room[i] };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &pieces[i], .msg_iovlen = 1 };
	}
	while (outstanding) {
		int n = recvmmsg(fd, messages, 64, MSG_DONTWAIT, NULL);
		for (int i = 0; i < n; i++)
			arrived(room[i], messages[i].msg_len);
		if (n > 0)
			continue;
		struct pollfd readable = { .fd = fd, .events = POLLIN };
		if (poll(&readable, 1, lossy ? 2000 : 5000) == 0)   // longer than a busy host stands still
			give_up();
	}
}

// A packet socket on an interface of another namespace; protocol 0 only sends.
static int packet_socket(const char *namespace, const char *interface, int type, int protocol)
{
	char path[256];
	snprintf(path, sizeof path, "/run/netns/%s", namespace);
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0 || setns(file, CLONE_NEWNET))
		fail("%s: %s", path, strerror(errno));
	close(file);
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = interface_index(interface), .sll_protocol = htons(protocol) };
	int fd = socket(AF_PACKET, type | SOCK_CLOEXEC, 0), on = 1, bytes = 64 << 20;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
	setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on);
	if (fd < 0 || bind(fd, (struct sockaddr *)&to, sizeof to))
		fail("%s: %s", interface, strerror(errno));
	if (!protocol)
		setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on);
	return fd;
}

static void send_all(int fd, struct outgoing *out, int n)
{
	struct iovec pieces[WINDOW];
	struct mmsghdr messages[WINDOW] = {};
	for (int i = 0; i < n; i++) {
		if (out[i].expected)
			append(out[i].expected);
		pieces[i] = (struct iovec){ out[i].frame, out[i].length };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &pieces[i], .msg_iovlen = 1 };
	}
	for (int at = 0, sent; at < n; at += sent)
		if ((sent = sendmmsg(fd, messages + at, n - at, 0)) < 0)
			fail("sending: %s", strerror(errno));
	count.sent += n;
}

int same_main(char **argv)
{
	uint64_t packets = 0, seed = 1;
	const char *words[4];
	options(argv, (struct option[]){ { "--packets", NUMBER, &packets }, { "--seed", NUMBER, &seed },
		{ "--lossy", FLAG, &lossy }, {} }, words, 4, 4);
	static struct outgoing out[WINDOW];
	state = seed;
	int to = packet_socket(words[0], words[1], SOCK_RAW, 0);
	int from = packet_socket(words[2], words[3], SOCK_DGRAM, ETH_P_ALL);
	uint64_t start = now_ns();
	while (count.sent < packets) {
		// Other flows from time to time; nothing of the old ones is on its way then.
		if (count.sent % (64 * WINDOW) == 0)
			for (int id = 0; id < FLOWS; id++) {
				uint64_t digest = flows[id].digest;
				start_flow(&flows[id], id);
				flows[id].digest = digest;
			}
		send_all(to, out, window(out, packets - count.sent < WINDOW ? packets - count.sent : WINDOW));
		drain(from);
	}
	uint64_t digest = 0;
	for (int id = 0; id < FLOWS; id++)
		digest = digest * 31 + flows[id].digest;
	printf("{\"sent\":%llu,\"delivered\":%llu,\"missing\":%llu,\"refused\":%llu,\"wrong_checksums\":%llu,\"lost\":%llu,\"twice\":%llu,"
		"\"reordered\":%llu,\"digest\":\"%016llx\",\"seconds\":%.3f}\n", (unsigned long long)count.sent,
		(unsigned long long)count.delivered, (unsigned long long)count.missing, (unsigned long long)count.refused, (unsigned long long)count.damaged,
		(unsigned long long)count.lost, (unsigned long long)count.doubled, (unsigned long long)count.swapped,
		(unsigned long long)digest, (now_ns() - start) / 1e9);
	return 0;
}
