// The verb send-raw: sends Ethernet frames exactly as given, for packets that no stack would send.
#include "lab.h"
#include <ctype.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

// Hex digits to bytes; spaces, colons and what follows a # are skipped. Returns the length.
static size_t unhex(const char *text, uint8_t *to, size_t room)
{
	size_t digits = 0;
	for (; *text && *text != '#' && *text != '\n'; text++) {
		if (isspace((unsigned char)*text) || *text == ':')
			continue;
		const char *hex = "0123456789abcdef", *digit = strchr(hex, tolower((unsigned char)*text));
		if (!digit || digits / 2 == room)
			fail(digit ? "a frame of more than %zu bytes" : "not hexadecimal (frames of at most %zu bytes)", room);
		to[digits / 2] = to[digits / 2] << 4 | (digit - hex);
		digits++;
	}
	if (digits % 2)
		fail("an odd number of hexadecimal digits");
	return digits / 2;
}

int send_raw_main(char **argv)
{
	struct list frames = {};
	uint64_t repeat = 1, interval = 0, sent = 0, start = 0, offset = 0;
	const char *name;
	options(argv, (struct option[]){ { "--hex", LIST, &frames }, { "--repeat", NUMBER, &repeat },
		{ "--interval-us", NUMBER, &interval }, { "--csum-start", NUMBER, &start },
		{ "--csum-offset", NUMBER, &offset }, {} }, &name, 1, 1);
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), on = 1;
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = interface_index(name) };
	if (fd < 0 || bind(fd, (struct sockaddr *)&to, sizeof to))
		fail("%s: %s", name, strerror(errno));
	// Past the qdisc and its tc hook: the balancer's own program must not wrap what is given here.
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on);
	// A checksum to be finished on the way: every frame begins with a virtio_net_hdr that says where.
	size_t header = start ? sizeof(struct virtio_net_hdr) : 0;
	if (header && setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on))
		fail("%s: PACKET_VNET_HDR: %s", name, strerror(errno));
	static uint8_t bytes[sizeof(struct virtio_net_hdr) + 65536];
	*(struct virtio_net_hdr *)bytes = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = start, .csum_offset = offset };
	uint8_t *frame = bytes + header;
	static char line[4 * sizeof bytes];
	for (int i = 0; frames.count ? i < frames.count : fgets(line, sizeof line, stdin) != NULL; i++) {
		size_t length = unhex(frames.count ? frames.items[i] : line, frame, 65536);
		for (uint64_t r = 0; length && r < repeat; r++) {
			if (send(fd, bytes, header + length, 0) < 0)
				fail("frame %d: %s", i + 1, strerror(errno));
			sent++;
			if (interval)
				sleep_ns(interval * 1000);
		}
	}
	printf("{\"sent\":%llu}\n", (unsigned long long)sent);
	return 0;
}
