// The lab's only executable: finds the verb, and holds the code that verbs share.
#include "lab.h"
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct verb { const char *name; int (*run)(char **argv); const char *help; } verbs[] = {
	{ "encap", encap_main, "attach IFACE [--local A --remote B]... [--vip ADDR=MODE]... [--ttl N] [--ecn 0-3] | detach IFACE" },
	{ "decap", decap_main, "attach IFACE [--redirect-peer IFACE|INDEX | --xdp] | detach IFACE" },
	{ "naive", naive_main, "DEVICE" },
	{ "sink", sink_main, "attach|read|reset|detach IFACE" },
	{ "generate", generate_main, "IFACE --mode ipip|ip6ip|ipip6|ip6ip6 --seconds S [--size INNER-PACKET-BYTES|imix] [--flows N]\n"
		"           [--burst N] [--rate PPS|max] [--local A] [--remote B] [--to VIP] [--src-mac M] [--dst-mac M]\n"
		"           [--batch N] [--cpu N] [--no-checksum]" },
	{ "serve", serve_main, "[--port P] [--size BYTES] [--seed N]" },
	{ "fetch", fetch_main, "URL | ADDR PORT [--progress LABEL] [--no-digest] [--timeout S]" },
	{ "push", push_main, "URL | ADDR PORT --size BYTES [--seed N] [--progress LABEL] [--no-digest] [--timeout S]" },
	{ "digest", digest_main, "--size BYTES [--seed N]" },
	{ "pingpong", pingpong_main, "ADDR PORT --count N [--size B] [--interval-us U | --rate PER-SECOND] [--timeout-ms T]" },
	{ "echo", echo_main, "[--port P]" },
	{ "send-raw", send_raw_main, "IFACE [--hex FRAME]... [--repeat N] [--interval-us U] [--csum-start B --csum-offset B]   (else one frame per line on stdin)" },
	{ "same", same_main, "NETNS IFACE NETNS IFACE --packets N [--seed N] [--lossy]   (sends into the first, compares at the second)" },
	{ "without-io_uring", without_io_uring_main, "COMMAND...   (as under a container's default seccomp profile)" },
	{ "stream", stream_main, "NETNS IFACE NETNS [--rate PPS] [--seconds S] [--flows N] [--size INNER-PACKET-BYTES] [--mode M] [--port P]\n"
		"           (sends into the first, counts lost, duplicate, late and changed packets at the second)" },
};
enum { VERBS = sizeof verbs / sizeof *verbs };

const char *const mode_names[MODES] = { "ipip", "ip6ip", "ipip6", "ip6ip6" };

enum mode mode_named(const char *name)
{
	for (int m = 0; name && m < MODES; m++)
		if (!strcmp(name, mode_names[m]))
			return m;
	fail("mode \"%s\" is none of ipip, ip6ip, ipip6, ip6ip6", name ? name : "");
}

const char *mode_vip(enum mode m)
{
	static const char *const vips[MODES] = { "203.0.113.4", "2001:db8:f::4", "203.0.113.6", "2001:db8:f::6" };
	return vips[m];
}

void fail(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	fputs("lab: ", stderr);
	vfprintf(stderr, format, list);
	fputc('\n', stderr);
	exit(1);
}

uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

void sleep_ns(uint64_t ns)
{
	struct timespec t = { ns / 1000000000, ns % 1000000000 };
	nanosleep(&t, NULL);
}

uint64_t number(const char *text)
{
	char *end;
	errno = 0;
	uint64_t n = strtoull(text, &end, 0);
	unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
	if (errno || end == text || *text == '-' || end[shift != 0] || n << shift >> shift != n)
		fail("\"%s\" is not a number", text);
	return n << shift;
}

unsigned interface_index(const char *name)
{
	unsigned index = if_nametoindex(name);
	if (!index)
		fail("no interface \"%s\" in this namespace", name);
	return index;
}

int address(const char *text, uint8_t bytes[16])
{
	memset(bytes, 0, 16);
	if (inet_pton(AF_INET6, text, bytes) == 1)
		return 6;
	bytes[10] = bytes[11] = 0xff;
	if (inet_pton(AF_INET, text, bytes + 12) == 1)
		return 4;
	fail("\"%s\" is not an address", text);
}

struct sockaddr_in6 endpoint(const char *host, const char *port)
{
	char text[128];
	if (!strncmp(host, "http://", 7))
		host += 7;
	snprintf(text, sizeof text, "%s", host + (*host == '['));
	char *end = *host == '[' ? strchr(text, ']') : strpbrk(text, "/");
	if (*host == '[' && !end)
		fail("\"%s\" has no ]", host);
	if (end && *host == '[' && end[1] == ':' && !port)
		port = end + 2;
	if (end)
		*end = 0;
	char *colon = strchr(text, ':');
	if (colon && colon == strrchr(text, ':')) {   // one colon: IPv4 with a port
		*colon = 0;
		if (!port)
			port = colon + 1;
	}
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(port ? atoi(port) : 80) };
	address(text, a.sin6_addr.s6_addr);
	return a;
}

static const struct option *find_option(const struct option *known, const char *word)
{
	for (; known->name; known++)
		if (!strcmp(known->name, word))
			return known;
	fail("unknown option %s", word);
}

int options(char **argv, const struct option *known, const char **words, int least, int most)
{
	int count = 0;
	for (; *argv; argv++) {
		if (strncmp(*argv, "--", 2)) {
			if (count == most)
				fail("one word too many: %s", *argv);
			words[count++] = *argv;
			continue;
		}
		const struct option *o = find_option(known, *argv);
		if (o->kind == FLAG) {
			*(bool *)o->into = true;
			continue;
		}
		if (!*++argv)
			fail("%s needs a value", o->name);
		if (o->kind == TEXT) {
			*(const char **)o->into = *argv;
		} else if (o->kind == NUMBER) {
			*(uint64_t *)o->into = number(*argv);
		} else {
			struct list *list = o->into;
			if (list->count == sizeof list->items / sizeof *list->items)
				fail("too many %s", o->name);
			list->items[list->count++] = *argv;
		}
	}
	if (count < least)
		fail("too few words; \"lab help\" shows them");
	return count;
}

static int help(FILE *to)
{
	fputs("usage: lab VERB ...\n", to);
	for (int i = 0; i < VERBS; i++)
		fprintf(to, "  %-8s %s\n", verbs[i].name, verbs[i].help);
	return to == stderr;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return help(stderr);
	for (int i = 0; i < VERBS; i++)
		if (!strcmp(argv[1], verbs[i].name))
			return verbs[i].run(argv + 2);
	return help(strcmp(argv[1], "help") && strcmp(argv[1], "--help") ? stderr : stdout);
}
