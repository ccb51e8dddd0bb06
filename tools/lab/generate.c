// The verb generate: an XDP program on live frames sends small encapsulated UDP packets out of a veth.
// The other end of the veth must run NAPI, or it accepts no XDP frames: enable GRO there (rig up --offloads on or gro
// does that on the node's eth0), or attach an XDP program.
#define _GNU_SOURCE
#include "lab.h"
#include "wire.h"
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

#ifndef BPF_F_TEST_XDP_LIVE_FRAMES
#define BPF_F_TEST_XDP_LIVE_FRAMES (1U << 1)
#endif
#define TEST_RUN_BATCH 64   // the kernel's TEST_XDP_BATCH

struct plan {
	enum mode mode;
	uint64_t sizes[SHAPES_MAX], flows, burst, rate, batch;   // rate 0: as fast as it goes
	uint8_t turn[TURNS_MAX];   // which of the sizes comes when
	int turns, longest;
	bool no_checksum;
	const char *interface, *local, *remote, *to, *source_mac, *target_mac;
	double seconds;
};

static volatile sig_atomic_t stopped;
static void stop(int signal) { (void)signal, stopped = 1; }

static void mac(const char *text, uint8_t *to)
{
	int end = 0;
	if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", to, to + 1, to + 2, to + 3, to + 4, to + 5, &end) != 6 || text[end])
		fail("\"%s\" is not an Ethernet address", text);
}

// The sum of 16-bit words in this machine's byte order, not folded; an odd last byte counts as if followed by 0.
static uint32_t words_sum(const uint8_t *at, size_t length)
{
	uint32_t sum = 0;
	uint16_t word;
	for (; length >= 2; at += 2, length -= 2)
		memcpy(&word, at, 2), sum += word;
	return length ? sum + *at : sum;
}

static uint32_t folded(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

// Writes an IP header at `at` and returns its length.
static int ip_header(uint8_t *at, bool six, uint8_t protocol, size_t payload, const char *from, const char *to)
{
	uint8_t a[16], b[16];
	if ((address(from, a) == 6) != six || (address(to, b) == 6) != six)
		fail("%s -> %s: not both of the mode's family", from, to);
	if (six) {
		memcpy(at, (uint8_t[8]){ 0x60, 0, 0, 0, payload >> 8, payload, protocol, 64 }, 8);
		memcpy(at + 8, a, 16);
		memcpy(at + 24, b, 16);
		return IPV6;
	}
	size_t total = payload + IPV4;
	memcpy(at, (uint8_t[12]){ 0x45, 0, total >> 8, total, 0, 0, 0x40, 0, 64, protocol, 0, 0 }, 12);
	memcpy(at + 12, a + 12, 4);
	memcpy(at + 16, b + 12, 4);
	uint16_t check = ~folded(words_sum(at, IPV4));
	memcpy(at + 10, &check, 2);
	return IPV4;
}

// Builds the frame of flow 0, sequence 0, and the sums from which the program makes the others of this size.
static size_t build(const struct plan *p, size_t size, uint8_t *frame, struct shape *shape)
{
	bool outer6 = outer_is6(p->mode), inner6 = inner_is6(p->mode);
	int inner = inner6 ? IPV6 : IPV4;
	mac(p->target_mac, frame);
	mac(p->source_mac, frame + 6);
	memcpy(frame + 12, outer6 ? "\x86\xdd" : "\x08\x00", 2);
	uint8_t *at = frame + ETHERNET;
	at += ip_header(at, outer6, inner6 ? IPPROTO_IPV6 : IPPROTO_IPIP, size,
		p->local ? p->local : outer6 ? BALANCER6 : BALANCER4, p->remote ? p->remote : outer6 ? NODE6 : NODE4);
	uint8_t *ip = at, *udp = at + inner;
	size_t length = size - inner;
	ip_header(ip, inner6, IPPROTO_UDP, length, inner6 ? "2001:db8:c::40" : "198.51.100.64", p->to ? p->to : mode_vip(p->mode));
	memcpy(udp, (uint8_t[8]){ 0, 0, 0, DISCARD_PORT, length >> 8, length, 0, 0 }, 8);
	struct generated mark = { .tag = htons(GENERATED_TAG), .length = htons(size) };
	memcpy(udp + UDP, &mark, sizeof mark);
	for (size_t i = UDP + sizeof mark; i < length; i++)
		udp[i] = i;
	if (!inner6)
		memset(ip + 10, 0, 2), shape->ip_sum = folded(words_sum(ip, IPV4));
	uint32_t pseudo = words_sum(ip + (inner6 ? 8 : 12), inner6 ? 32 : 8) + htons(IPPROTO_UDP) + htons(length);
	shape->udp_sum = folded(folded(pseudo) + folded(words_sum(udp, length)));
	memcpy(shape->template, frame, sizeof shape->template);
	return udp + length - frame;
}

// Fills the recipe, and the frame with the longest packet.
static size_t prepare(const struct plan *p, uint8_t *frame, struct recipe *recipe)
{
	*recipe = (struct recipe){ .interface = interface_index(p->interface), .flows = p->flows, .burst = p->burst,
		.udp_zero = p->no_checksum, .turns = p->turns, .batch = p->batch ? p->batch : TEST_RUN_BATCH,
		.interval_ps = p->rate ? 1000000000000ull / p->rate : 0 };
	memcpy(recipe->turn, p->turn, sizeof recipe->turn);
	for (int i = 0; i < SHAPES_MAX && p->sizes[i]; i++) {
		recipe->shapes[i].shorter = p->sizes[p->longest] - p->sizes[i];
		build(p, p->sizes[i], frame, &recipe->shapes[i]);
	}
	return build(p, p->sizes[p->longest], frame, &recipe->shapes[p->longest]);
}

static int load(const struct plan *p, struct bpf_object *object, const struct recipe *recipe)
{
	struct bpf_program *program;
	bpf_object__for_each_program(program, object)
		bpf_program__set_autoload(program, !strcmp(bpf_program__name(program), mode_names[p->mode]));
	if (bpf_map__set_initial_value(bpf_object__find_map_by_name(object, ".data.recipe"), recipe, sizeof *recipe))
		fail("the generator's program has another layout");
	if (bpf_object__load(object))
		fail("loading the generator: %s", strerror(errno));
	return bpf_program__fd(bpf_object__find_program_by_name(object, mode_names[p->mode]));
}

// What a NIC has sent, which holds what others send there, too.
static uint64_t sent_by_nic(const char *interface)
{
	char path[128];
	unsigned long long packets;
	snprintf(path, sizeof path, "/sys/class/net/%s/statistics/tx_packets", interface);
	FILE *file = fopen(path, "re");
	if (!file || fscanf(file, "%llu", &packets) != 1)
		fail("%s: %s", path, strerror(errno));
	fclose(file);
	return packets;
}

// The XDP frames a veth has passed to its other end, by its own statistics. The test run cannot tell, it counts frames
// the veth refused, too; and the interface's packet counters hold everything else that is sent there.
static uint64_t transmitted(const char *interface)
{
	struct ethtool_sset_info *sets = calloc(1, sizeof *sets + sizeof(uint32_t));
	if (!sets)
		fail("out of memory");
	sets->cmd = ETHTOOL_GSSET_INFO;
	sets->sset_mask = 1 << ETH_SS_STATS;
	struct ifreq request = { .ifr_data = (void *)sets };
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", interface);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (ioctl(fd, SIOCETHTOOL, &request))
		fail("%s has no statistics: %s", interface, strerror(errno));
	uint32_t count = sets->data[0];
	free(sets);
	struct ethtool_gstrings *names = calloc(1, sizeof *names + count * ETH_GSTRING_LEN);
	struct ethtool_stats *values = calloc(1, sizeof *values + count * sizeof(uint64_t));
	if (!names || !values)
		fail("out of memory");
	*names = (struct ethtool_gstrings){ .cmd = ETHTOOL_GSTRINGS, .string_set = ETH_SS_STATS, .len = count };
	*values = (struct ethtool_stats){ .cmd = ETHTOOL_GSTATS, .n_stats = count };
	request.ifr_data = (void *)names;
	int result = ioctl(fd, SIOCETHTOOL, &request);
	request.ifr_data = (void *)values;
	if (result || ioctl(fd, SIOCETHTOOL, &request))
		fail("the statistics of %s: %s", interface, strerror(errno));
	uint64_t frames = 0;
	bool found = false;
	for (uint32_t i = 0; i < count; i++) {
		const char *name = (const char *)names->data + i * ETH_GSTRING_LEN, *end = name + strnlen(name, ETH_GSTRING_LEN);
		if (strncmp(name, "tx_queue_", 9) || end - name < 9 || strncmp(end - 9, "_xdp_xmit", 9))
			continue;
		frames += values->data[i];
		found = true;
	}
	free(names);
	free(values);
	close(fd);
	return found ? frames : sent_by_nic(interface);
}

// One run of the program for the whole time, ended by the alarm: starting and ending a run costs the kernel some 20 ms
// (it waits for all CPUs to pass by), and traffic in bursts with gaps of that length measures the length of queues.
static void run(const struct plan *p, int program, const uint8_t *frame, size_t length)
{
	struct itimerval time = { .it_value = { .tv_sec = p->seconds, .tv_usec = (p->seconds - (long)p->seconds) * 1e6 } };
	signal(SIGALRM, stop);
	if (setitimer(ITIMER_REAL, &time, NULL))
		fail("the timer: %s", strerror(errno));
	while (!stopped) {
		LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = length, .repeat = INT32_MAX,
			.flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = p->batch);
		int result = bpf_prog_test_run_opts(program, &opts);
		if (result && result != -EINTR)
			fail("running the generator: %s", strerror(-result));
	}
}

static void check_plan(struct plan *p, const char *rate, const char *seconds)
{
	char *end;
	p->seconds = strtod(seconds ? seconds : "", &end);
	if (!seconds || *end || p->seconds <= 0)
		fail("--seconds is needed");
	p->rate = !strcmp(rate, "max") ? 0 : number(rate);
	size_t least = (inner_is6(p->mode) ? IPV6 : IPV4) + UDP + sizeof(struct generated);
	for (int i = 0; i < SHAPES_MAX && (!i || p->sizes[i]); i++) {
		if (p->sizes[i] < least || p->sizes[i] > 1500)
			fail("--size is the whole inner packet: %zu to 1500 bytes for %s", least, mode_names[p->mode]);
		if (p->sizes[i] > p->sizes[p->longest])
			p->longest = i;
	}
	if (!p->flows || p->flows > FLOWS_MAX || !p->burst || p->burst > UINT32_MAX)
		fail("--flows 1 to %d, --burst at least 1", FLOWS_MAX);
}

// imix: the simple Internet mix, 7 small, 4 medium and 1 large packet, spread as evenly as they go. The large one is as
// long as the lab's pods take.
static void set_sizes(struct plan *p, const char *size)
{
	p->turns = 1;
	if (strcmp(size, "imix")) {
		p->sizes[0] = number(size);
		return;
	}
	memcpy(p->sizes, (uint64_t[]){ 64, 576, 1400 }, 3 * sizeof *p->sizes);
	memcpy(p->turn, (uint8_t[]){ 0, 1, 0, 0, 1, 0, 2, 0, 1, 0, 0, 1 }, TURNS_MAX);
	p->turns = TURNS_MAX;
}

static void print_result(const struct plan *p, uint64_t sent, double took, uint64_t waited)
{
	unsigned long long size = p->sizes[0];
	char text[32];
	snprintf(text, sizeof text, p->turns > 1 ? "\"imix\"" : "%llu", size);
	printf("{\"mode\":\"%s\",\"inner_bytes\":%s,\"flows\":%llu,\"burst\":%llu,\"sent\":%llu,"
		"\"seconds\":%.3f,\"pps\":%.0f,\"waited_seconds\":%.3f}\n", mode_names[p->mode], text,
		(unsigned long long)p->flows, (unsigned long long)p->burst, (unsigned long long)sent, took, sent / took, waited / 1e9);
}

static uint64_t waited(struct bpf_object *object)
{
	uint64_t value = 0;
	uint32_t key = 0;
	int map = bpf_map__fd(bpf_object__find_map_by_name(object, ".data.waited"));
	if (bpf_map_lookup_elem(map, &key, &value))
		fail("how long the generator waited: %s", strerror(errno));
	return value;
}

int generate_main(char **argv)
{
	struct plan p = { .flows = 1, .burst = 1, .source_mac = "02:00:00:00:02:01", .target_mac = "02:00:00:00:02:02" };
	const char *mode = NULL, *rate = "max", *seconds = NULL, *size = "64";
	uint64_t cpu = UINT64_MAX;
	options(argv, (struct option[]){ { "--mode", TEXT, &mode }, { "--size", TEXT, &size }, { "--flows", NUMBER, &p.flows },
		{ "--burst", NUMBER, &p.burst }, { "--rate", TEXT, &rate }, { "--seconds", TEXT, &seconds },
		{ "--local", TEXT, &p.local }, { "--remote", TEXT, &p.remote }, { "--to", TEXT, &p.to },
		{ "--src-mac", TEXT, &p.source_mac }, { "--dst-mac", TEXT, &p.target_mac }, { "--batch", NUMBER, &p.batch },
		{ "--cpu", NUMBER, &cpu }, { "--no-checksum", FLAG, &p.no_checksum }, {} }, &p.interface, 1, 1);
	p.mode = mode_named(mode);
	set_sizes(&p, size);
	check_plan(&p, rate, seconds);
	if (cpu != UINT64_MAX) {
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		if (sched_setaffinity(0, sizeof set, &set))
			fail("CPU %llu: %s", (unsigned long long)cpu, strerror(errno));
	}
	signal(SIGINT, stop);
	signal(SIGTERM, stop);
	uint8_t frame[2048] = {};
	struct recipe recipe = {};
	size_t length = prepare(&p, frame, &recipe);
	struct bpf_object *object = open_object("generate");
	int program = load(&p, object, &recipe);
	uint64_t before = transmitted(p.interface), start = now_ns();
	run(&p, program, frame, length);
	double took = (now_ns() - start) / 1e9;
	uint64_t sent = transmitted(p.interface) - before;
	print_result(&p, sent, took, waited(object));
	if (!sent)
		fail("%s sent no frame: the other end of a veth must have GRO on (ethtool -K eth0 gro on), and a NIC's driver must "
			"send XDP frames", p.interface);
	return 0;
}
