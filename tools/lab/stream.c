// The verb stream: sends numbered datagrams at a steady rate into a forwarder, and checks each at the other end. Every
// datagram holds its number, its flow and bytes derived from the number. The other end counts lost, duplicate, changed and
// (within the flow) late datagrams, and prints the times of losses. It ends after --seconds, or at SIGINT, and waits for
// datagrams on their way.
#define _GNU_SOURCE
#include "lab.h"
#include "frame.h"
#include "wire.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 256, FLOWS_DEFAULT = 64, RECEIVE_BYTES = 256 << 20, WINDOWS = 1024, ROOM = 2048 };

// What stands at the head of each payload.
struct mark { uint64_t number, flow, seed; };

static uint64_t rate = 20000, seconds = 10, flow_count = FLOWS_DEFAULT, size = 100, port = DISCARD_PORT, seed;
static enum mode modes[MODES];
static int mode_count;
static uint32_t *sent_us;         // when each was sent, in µs since the start
static _Atomic uint8_t *times;    // how often each came
static uint64_t start, most;
static _Atomic uint64_t sent, arrived, twice, late, altered, overflowed, last_arrival, longest_gap, gap_end;
static volatile sig_atomic_t stopping;

static void stop(int signal) { (void)signal, stopping = 1; }

static void filler(uint64_t number, uint8_t *to, size_t length)
{
	for (uint64_t state = number ^ seed; length;) {
		uint64_t word = mixed(state += 0x9e3779b97f4a7c15);
		size_t part = length < 8 ? length : 8;
		memcpy(to, &word, part);
		to += part, length -= part;
	}
}

static void ipv4(uint8_t *at, size_t length, uint8_t protocol, const uint8_t from[16], const uint8_t to[16])
{
	memcpy(at, (uint8_t[12]){ 0x45, 0, length >> 8, length, 0, 0, 0x40, 0, 64, protocol }, 12);
	memcpy(at + 12, from + 12, 4), memcpy(at + 16, to + 12, 4);
	put16(at + 10, ~folded(words(0, at, IPV4)));
}

static void ipv6(uint8_t *at, size_t length, uint8_t protocol, const uint8_t from[16], const uint8_t to[16])
{
	memcpy(at, (uint8_t[8]){ 0x60, 0, 0, 0, (length - IPV6) >> 8, length - IPV6, protocol, 64 }, 8);
	memcpy(at + 8, from, 16), memcpy(at + 24, to, 16);
}

// One frame of a number; returns its length. `room` has ROOM bytes.
static size_t make(uint64_t number, uint8_t *room)
{
	uint64_t flow = number % flow_count;
	enum mode mode = modes[flow % mode_count];
	bool outer6 = outer_is6(mode), inner6 = inner_is6(mode);
	uint8_t from[16], to[16], local[16], remote[16];
	address(inner6 ? "2001:db8:c::2" : "198.51.100.2", from), address(mode_vip(mode), to);
	address(outer6 ? BALANCER6 : BALANCER4, remote), address(outer6 ? NODE6 : NODE4, local);
	uint8_t *outer = room + ETHERNET, *inner = outer + (outer6 ? IPV6 : IPV4), *udp = inner + (inner6 ? IPV6 : IPV4);
	size_t payload = size - (udp - inner) - UDP, length = size + (inner - outer);
	struct mark mark = { number, flow, seed };
	memcpy(udp + UDP, &mark, sizeof mark);
	filler(number, udp + UDP + sizeof mark, payload - sizeof mark);
	put16(udp, 1024 + flow), put16(udp + 2, port), put16(udp + 4, UDP + payload), put16(udp + 6, 0);
	uint64_t sum = words(IPPROTO_UDP + UDP + payload, udp, UDP + payload);
	sum = inner6 ? words(words(sum, from, 16), to, 16) : words(words(sum, from + 12, 4), to + 12, 4);
	uint16_t checksum = ~folded(sum);
	put16(udp + 6, checksum ? checksum : 0xffff);
	(inner6 ? ipv6 : ipv4)(inner, size, IPPROTO_UDP, from, to);
	(outer6 ? ipv6 : ipv4)(outer, length, inner6 ? IPPROTO_IPV6 : IPPROTO_IPIP, remote, local);
	memcpy(room, "\2\0\0\0\2\2\2\0\0\0\2\1", 12);
	put16(room + 12, outer6 ? 0x86dd : 0x0800);
	return ETHERNET + length;
}

static void took(const uint8_t *data, size_t length)
{
	static uint64_t newest[1 << 16];
	struct mark mark;
	uint8_t right[ROOM];
	if (length < sizeof mark)
		return;
	memcpy(&mark, data, sizeof mark);
	if (mark.seed != seed)
		return;   // another stream's
	filler(mark.number, right, length - sizeof mark);
	if (mark.number >= most || mark.flow != mark.number % flow_count || memcmp(data + sizeof mark, right, length - sizeof mark)) {
		altered++;
		return;
	}
	if (times[mark.number]++)
		twice++;
	else
		arrived++;
	if (mark.number + 1 < newest[mark.flow])
		late++;
	else
		newest[mark.flow] = mark.number + 1;
	uint64_t now = now_ns(), gap = now - (last_arrival ? last_arrival : start);
	if (gap > longest_gap)
		longest_gap = gap, gap_end = now;
	last_arrival = now;
}

static void *receive(void *socket_number)
{
	int fd = *(int *)socket_number;
	static uint8_t room[BATCH][ROOM], control[BATCH][64];
	struct iovec pieces[BATCH];
	struct mmsghdr messages[BATCH] = {};
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			pieces[i] = (struct iovec){ room[i], ROOM };
			messages[i].msg_hdr = (struct msghdr){ .msg_iov = &pieces[i], .msg_iovlen = 1,
				.msg_control = control[i], .msg_controllen = sizeof control[i] };
		}
		int n = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
		for (int i = 0; i < n; i++) {
			took(room[i], messages[i].msg_len);
			struct cmsghdr *more = CMSG_FIRSTHDR(&messages[i].msg_hdr);
			if (more && more->cmsg_type == SO_RXQ_OVFL) {
				uint32_t count;
				memcpy(&count, CMSG_DATA(more), sizeof count);
				overflowed = count;
			}
		}
	}
	return NULL;
}

static void enter(const char *namespace)
{
	char path[256];
	snprintf(path, sizeof path, "/run/netns/%s", namespace);
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0 || setns(file, CLONE_NEWNET))
		fail("%s: %s", path, strerror(errno));
	close(file);
}

static int receiver(const char *namespace)
{
	enter(namespace);
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1, off = 0, bytes = RECEIVE_BYTES;
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
	setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any))
		fail("port %llu: %s", (unsigned long long)port, strerror(errno));
	return fd;
}

static bool attach(int fd, const char *interface)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(interface) };
	return to.sll_ifindex && !bind(fd, (struct sockaddr *)&to, sizeof to);
}

static int sender(const char *namespace, const char *interface)
{
	enter(namespace);
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), on = 1;
	if (fd < 0 || !attach(fd, interface))
		fail("%s: %s", interface, strerror(errno));
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on);
	return fd;
}

// Sends what is due, each half millisecond. What an interface that is down or absent does not take was never sent.
static void send_all(int fd, const char *interface)
{
	static uint8_t room[BATCH][ROOM];
	struct iovec pieces[BATCH];
	struct mmsghdr messages[BATCH] = {};
	uint64_t skipped = 0;
	for (uint64_t now; !stopping && (now = now_ns()) < start + seconds * 1000000000;) {
		uint64_t due = (unsigned __int128)(now - start) * rate / 1000000000 - skipped;
		int n = 0;
		for (; n < BATCH && sent + n < due && sent + n < most; n++) {
			pieces[n] = (struct iovec){ room[n], make(sent + n, room[n]) };
			messages[n].msg_hdr = (struct msghdr){ .msg_iov = &pieces[n], .msg_iovlen = 1 };
			sent_us[sent + n] = (now - start) / 1000;
		}
		int done = n ? sendmmsg(fd, messages, n, 0) : 0;
		if (done < 0 && errno != ENETDOWN && errno != ENOBUFS && errno != ENXIO)
			fail("sending: %s", strerror(errno));
		if (done < 0)
			skipped += n, attach(fd, interface);
		else
			sent += done;
		if (n < BATCH)
			sleep_ns(500000);
	}
}

// Losses that lie within 100 ms of one another are one window.
static void print_windows(void)
{
	struct { uint32_t from, to; uint64_t lost; } windows[WINDOWS] = {};
	int count = 0;
	for (uint64_t i = 0; i < sent; i++) {
		if (times[i])
			continue;
		if (!count || (sent_us[i] > windows[count - 1].to + 100000 && count < WINDOWS))
			windows[count++].from = sent_us[i];
		windows[count - 1].to = sent_us[i], windows[count - 1].lost++;
	}
	for (int i = 0; i < count; i++)
		printf("%s[%.3f,%.3f,%llu]", i ? "," : "", windows[i].from / 1e6, windows[i].to / 1e6, (unsigned long long)windows[i].lost);
}

int stream_main(char **argv)
{
	const char *only = NULL, *ends[3];
	options(argv, (struct option[]){ { "--rate", NUMBER, &rate }, { "--seconds", NUMBER, &seconds }, { "--flows", NUMBER, &flow_count },
		{ "--size", NUMBER, &size }, { "--port", NUMBER, &port }, { "--mode", TEXT, &only }, {} }, ends, 3, 3);
	most = rate * seconds;
	if (!most || flow_count < 1 || flow_count > 60000 || size < 80 || size > 1400)
		fail("--rate and --seconds at least 1, --flows 1 to 60000, --size 80 to 1400 bytes of the inner packet");
	for (enum mode m = 0; m < MODES; m++)
		if (!only || m == mode_named(only))
			modes[mode_count++] = m;
	sent_us = calloc(most, sizeof *sent_us), times = calloc(most, sizeof *times);
	if (!sent_us || !times)
		fail("out of memory");
	prctl(PR_SET_TIMERSLACK, 1);
	sigaction(SIGINT, &(struct sigaction){ .sa_handler = stop }, NULL);
	int in = receiver(ends[2]), out = sender(ends[0], ends[1]);
	start = now_ns(), seed = mixed(start ^ (uint64_t)getpid() << 40);
	pthread_t thread;
	if (pthread_create(&thread, NULL, receive, &in))
		fail("no thread");
	printf("{\"start_ns\":%llu,", (unsigned long long)start);
	fflush(stdout);   // who injects faults waits for this
	send_all(out, ends[1]);
	for (uint64_t end = now_ns(), before = 0; arrived < sent && now_ns() < end + 2000000000ull;) {
		if (arrived != before)
			before = arrived, end = now_ns();
		sleep_ns(20000000);
	}
	printf("\"seconds\":%.3f,\"sent\":%llu,\"arrived\":%llu,\"lost\":%llu,\"twice\":%llu,\"late\":%llu,\"altered\":%llu,"
		"\"receiver_dropped\":%llu,\"longest_gap_ms\":%.1f,\"gap_end\":%.3f,\"losses\":[", (now_ns() - start) / 1e9,
		(unsigned long long)sent, (unsigned long long)arrived, (unsigned long long)(sent - arrived), (unsigned long long)twice,
		(unsigned long long)late, (unsigned long long)altered, (unsigned long long)overflowed, longest_gap / 1e6,
		gap_end ? (gap_end - start) / 1e9 : 0);
	print_windows();
	printf("]}\n");
	return 0;
}
