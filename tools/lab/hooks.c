// The verbs that attach programs to tc hooks: encap (balancer), decap (the in-kernel peer), sink (pod).
// They use clsact, not tcx: clsact works before Linux 6.6, and the program outlives the command without a pin in a
// bpf file system. "detach" or the removal of the interface removes the program.
#include "lab.h"
#include "wire.h"
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HANDLE = 1, PRIORITY = 4917 };   // ours alone, so that detach takes nothing else along

static void must(int result, const char *what)
{
	if (result < 0)
		fail("%s: %s", what, strerror(-result));
}

static void attach(struct bpf_object *object, const char *program, int interface, enum bpf_tc_attach_point point)
{
	must(bpf_object__load(object), "loading the BPF program");
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = interface, .attach_point = point);
	int result = bpf_tc_hook_create(&hook);
	if (result != -EEXIST)
		must(result, "clsact");
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = HANDLE, .priority = PRIORITY, .flags = BPF_TC_F_REPLACE,
		.prog_fd = bpf_program__fd(bpf_object__find_program_by_name(object, program)));
	must(bpf_tc_attach(&hook, &opts), "attaching to the tc hook");
}

// An empty clsact still costs each packet a look, which would count against whatever is measured next without it.
static void remove_if_empty(int interface)
{
	char name[IF_NAMESIZE], command[128], byte;
	snprintf(command, sizeof command, "tc filter show dev %1$s ingress; tc filter show dev %1$s egress",
		if_indextoname(interface, name));
	FILE *tc = popen(command, "r");
	size_t read = tc ? fread(&byte, 1, 1, tc) : 1;
	int status = tc ? pclose(tc) : 1;
	if (read || status)
		return;
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = interface, .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	bpf_tc_hook_destroy(&hook);
}

static int detach(int interface, enum bpf_tc_attach_point point)
{
	libbpf_set_print(NULL);
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = interface, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = HANDLE, .priority = PRIORITY);
	int result = bpf_tc_detach(&hook, &opts);
	if (result != -ENOENT && result != -EINVAL)   // nothing there: detaching twice is fine
		must(result, "detaching from the tc hook");
	remove_if_empty(interface);
	return 0;
}

static void set_rodata(struct bpf_object *object, uint32_t value)
{
	struct bpf_map *map;
	bpf_object__for_each_map(map, object)
		if (strstr(bpf_map__name(map), ".rodata"))
			must(bpf_map__set_initial_value(map, &value, sizeof value), "constants");
}

static void choose_outer(struct outer *outer, bool six, const struct list *locals, const struct list *remotes)
{
	uint8_t local[16], remote[16];
	address(six ? BALANCER6 : BALANCER4, local);
	address(six ? NODE6 : NODE4, remote);
	for (int i = 0; i < locals->count; i++) {
		uint8_t a[16];
		if (address(locals->items[i], a) == (six ? 6 : 4))
			memcpy(local, a, 16);
	}
	for (int i = 0; i < remotes->count; i++) {
		uint8_t a[16];
		if (address(remotes->items[i], a) == (six ? 6 : 4))
			memcpy(remote, a, 16);
	}
	outer->family = six ? 6 : 4;
	memcpy(outer->local, six ? local : local + 12, six ? 16 : 4);
	memcpy(outer->remote, six ? remote : remote + 12, six ? 16 : 4);
}

static void add_vip(struct bpf_object *object, const char *vip, enum mode mode, const struct outer *pattern,
	const struct list *locals, const struct list *remotes)
{
	uint8_t key[16];
	struct outer outer = *pattern;
	if ((address(vip, key) == 6) != inner_is6(mode))
		fail("%s is of the wrong family for %s", vip, mode_names[mode]);
	choose_outer(&outer, outer_is6(mode), locals, remotes);
	int map = bpf_map__fd(bpf_object__find_map_by_name(object, "encap_vips"));
	must(bpf_map_update_elem(map, key, &outer, BPF_ANY), vip);
}

int encap_main(char **argv)
{
	struct list locals = {}, remotes = {}, vips = {};
	uint64_t ttl = 64, ecn = 0xff;
	const char *words[2];
	options(argv, (struct option[]){ { "--local", LIST, &locals }, { "--remote", LIST, &remotes }, { "--vip", LIST, &vips },
		{ "--ttl", NUMBER, &ttl }, { "--ecn", NUMBER, &ecn }, {} }, words, 2, 2);
	int interface = interface_index(words[1]);
	if (!strcmp(words[0], "detach"))
		return detach(interface, BPF_TC_EGRESS);
	if (strcmp(words[0], "attach"))
		fail("encap %s: attach or detach", words[0]);
	struct bpf_object *object = open_object("encap");
	attach(object, "encap", interface, BPF_TC_EGRESS);
	struct outer pattern = { .ttl = ttl, .ecn = ecn };
	for (int m = 0; m < MODES; m++)
		add_vip(object, mode_vip(m), m, &pattern, &locals, &remotes);
	for (int i = 0; i < vips.count; i++) {
		char vip[64];
		const char *equals = strchr(vips.items[i], '=');
		if (!equals || equals - vips.items[i] >= (long)sizeof vip)
			fail("--vip %s: ADDR=MODE", vips.items[i]);
		snprintf(vip, sizeof vip, "%.*s", (int)(equals - vips.items[i]), vips.items[i]);
		add_vip(object, vip, mode_named(equals + 1), &pattern, &locals, &remotes);
	}
	return 0;
}

// The driver's own hook where it has one, else that of socket buffers.
static void attach_xdp(struct bpf_object *object, const char *program, int interface)
{
	must(bpf_object__load(object), "loading the BPF program");
	int fd = bpf_program__fd(bpf_object__find_program_by_name(object, program));
	int result = bpf_xdp_attach(interface, fd, XDP_FLAGS_DRV_MODE | XDP_FLAGS_UPDATE_IF_NOEXIST, NULL);
	bool generic = result == -EOPNOTSUPP;
	if (generic)
		result = bpf_xdp_attach(interface, fd, XDP_FLAGS_SKB_MODE | XDP_FLAGS_UPDATE_IF_NOEXIST, NULL);
	must(result, "attaching to the XDP hook");
	printf("{\"hook\":\"%s\"}\n", generic ? "generic" : "native");
}

// Detaches the lab's program and no other's.
static void detach_xdp(int interface)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);
	if (bpf_xdp_query(interface, 0, &query) || !query.prog_id)
		return;
	struct bpf_prog_info info = {};
	uint32_t length = sizeof info;
	int fd = bpf_prog_get_fd_by_id(query.prog_id);
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &length) || strcmp(info.name, "decap_xdp"))
		return;
	must(bpf_xdp_detach(interface, query.attach_mode == XDP_ATTACHED_SKB ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE, NULL),
		"detaching from the XDP hook");
	close(fd);
}

int decap_main(char **argv)
{
	const char *words[2], *peer = NULL;
	bool xdp = false;
	options(argv, (struct option[]){ { "--redirect-peer", TEXT, &peer }, { "--xdp", FLAG, &xdp }, {} }, words, 2, 2);
	int interface = interface_index(words[1]);
	if (!strcmp(words[0], "detach")) {
		detach_xdp(interface);
		return detach(interface, BPF_TC_INGRESS);
	}
	if (strcmp(words[0], "attach"))
		fail("decap %s: attach or detach", words[0]);
	struct bpf_object *object = open_object("decap");
	bpf_program__set_autoload(bpf_object__find_program_by_name(object, xdp ? "decap" : "decap_xdp"), false);
	if (xdp) {
		attach_xdp(object, "decap_xdp", interface);
		return 0;
	}
	if (peer)
		set_rodata(object, if_nametoindex(peer) ? if_nametoindex(peer) : number(peer));
	attach(object, "decap", interface, BPF_TC_INGRESS);
	return 0;
}

// Where a TUN is the sink there is no Ethernet header.
static uint32_t link_header(const char *interface)
{
	struct ifreq request = {};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", interface);
	if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &request))
		fail("%s: %s", interface, strerror(errno));
	close(fd);
	return request.ifr_hwaddr.sa_family == ARPHRD_ETHER ? ETHERNET : 0;
}

// Maps a map of the attached sink, found by its name in the program's list.
static void *map_of(int interface, const char *name, size_t bytes)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = interface, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = HANDLE, .priority = PRIORITY);
	if (bpf_tc_query(&hook, &opts))
		fail("no sink is attached there");
	uint32_t ids[8];
	struct bpf_prog_info program = { .nr_map_ids = 8, .map_ids = (uintptr_t)ids };
	uint32_t length = sizeof program;
	int fd = bpf_prog_get_fd_by_id(opts.prog_id);
	must(bpf_obj_get_info_by_fd(fd, &program, &length), "the attached program");
	for (unsigned i = 0; i < program.nr_map_ids; i++) {
		struct bpf_map_info map = {};
		length = sizeof map;
		int map_fd = bpf_map_get_fd_by_id(ids[i]);
		must(bpf_obj_get_info_by_fd(map_fd, &map, &length), "a map of the attached program");
		if (strcmp(map.name, name))
			continue;
		void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
		if (at == MAP_FAILED)
			fail("%s: %s", name, strerror(errno));
		return at;
	}
	fail("the program attached there is not the sink");
}

static int sink_read(const struct counters *cpus)
{
	struct counters all = {};
	for (int i = 0; i < CPUS_MAX; i++) {
		all.packets += cpus[i].packets, all.bytes += cpus[i].bytes, all.frames += cpus[i].frames;
		all.out_of_order += cpus[i].out_of_order, all.duplicates += cpus[i].duplicates;
		all.wrong_length += cpus[i].wrong_length, all.unknown += cpus[i].unknown, all.gaps += cpus[i].gaps;
	}
	printf("{\"packets\":%llu,\"bytes\":%llu,\"frames\":%llu,\"out_of_order\":%llu,\"duplicates\":%llu,"
		"\"wrong_length\":%llu,\"unknown_flow\":%llu,\"skipped\":%llu}\n", all.packets, all.bytes, all.frames,
		all.out_of_order, all.duplicates, all.wrong_length, all.unknown, all.gaps);
	return 0;
}

int sink_main(char **argv)
{
	const char *words[2];
	options(argv, (struct option[]){ {} }, words, 2, 2);
	int interface = interface_index(words[1]);
	enum { COUNTERS = CPUS_MAX * sizeof(struct counters), FLOWS = FLOWS_MAX * sizeof(uint64_t) };
	if (!strcmp(words[0], "detach"))
		return detach(interface, BPF_TC_INGRESS);
	if (!strcmp(words[0], "attach")) {
		struct bpf_object *object = open_object("sink");
		set_rodata(object, link_header(words[1]));
		attach(object, "sink", interface, BPF_TC_INGRESS);
	} else if (!strcmp(words[0], "read")) {
		return sink_read(map_of(interface, "sink_counters", COUNTERS));
	} else if (!strcmp(words[0], "reset")) {
		memset(map_of(interface, "sink_counters", COUNTERS), 0, COUNTERS);
		memset(map_of(interface, "sink_flows", FLOWS), 0, FLOWS);
	} else {
		fail("sink %s: attach, read, reset or detach", words[0]);
	}
	return 0;
}
