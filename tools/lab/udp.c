// The verbs pingpong and echo: the round trip of one UDP datagram at a time.
#define _GNU_SOURCE
#include "lab.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

int echo_main(char **argv)
{
	uint64_t port = 7;
	options(argv, (struct option[]){ { "--port", NUMBER, &port }, {} }, NULL, 0, 0);
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1, off = 0;
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&any, sizeof any))
		fail("port %llu: %s", (unsigned long long)port, strerror(errno));
	printf("{\"port\":%llu}\n", (unsigned long long)port);
	fflush(stdout);   // the caller waits for this line
	for (;;) {
		static char data[65536], control[256];
		struct sockaddr_in6 from;
		struct iovec io = { data, sizeof data };
		struct msghdr message = { &from, sizeof from, &io, 1, control, sizeof control, 0 };
		ssize_t n = recvmsg(fd, &message, 0);
		if (n < 0)
			continue;
		io.iov_len = n;
		// The answer must leave from the VIP, not from the address the route would choose: the packet information goes back
		// as it came, but without the interface, since the way out is the route's to say.
		struct cmsghdr *info = CMSG_FIRSTHDR(&message);
		if (info && info->cmsg_type == IPV6_PKTINFO)
			memset(CMSG_DATA(info) + offsetof(struct in6_pktinfo, ipi6_ifindex), 0, sizeof(unsigned));
		sendmsg(fd, &message, 0);
	}
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double part(const double *sorted, uint64_t count, double share)
{
	return count ? sorted[(uint64_t)(share * (count - 1) + 0.5)] : 0;
}

// One round trip in microseconds since `from`, or since now if that is 0; negative when no answer came in time.
static double round_trip(int fd, char *data, size_t size, uint64_t number, int timeout_ms, uint64_t from)
{
	uint64_t start = now_ns(), got;
	if (!from)
		from = start;
	memcpy(data, &number, sizeof number);
	if (send(fd, data, size, 0) < 0 && errno != ECONNREFUSED)
		fail("sending: %s", strerror(errno));
	for (;;) {
		int64_t left = timeout_ms - (int64_t)((now_ns() - start) / 1000000);
		struct pollfd ready = { fd, POLLIN, 0 };
		if (left <= 0 || poll(&ready, 1, left) <= 0)
			return -1;
		ssize_t n = recv(fd, data, size, 0);
		memcpy(&got, data, sizeof got);
		if (n == (ssize_t)size && got == number)   // not a late answer to an earlier one
			return (now_ns() - from) / 1e3;
		if (n < 0 && errno == ECONNREFUSED)
			return -1;
	}
}

// Waits until a request is due. Returns 0 if it goes out then, and the time that it was due at if an earlier answer was
// so late that it could not: what it waited belongs to its round trip, or a stall would hide the requests it held up
// (coordinated omission).
static uint64_t due(uint64_t when)
{
	uint64_t now = now_ns();
	if (now > when)
		return when;
	sleep_ns(when - now);
	return 0;
}

// The whole distribution by ticks that halve the distance to 100 %, five a halving, as HdrHistogram prints it.
static void distribution(const double *sorted, uint64_t count)
{
	printf(",\"percentiles\":[[0,%.1f]", part(sorted, count, 0));
	for (double left = 1; left * count > 1; left /= 2)
		for (int tick = 1; tick <= 5; tick++)
			printf(",[%.6f,%.1f]", 100 * (1 - left + left * tick / 10), part(sorted, count, 1 - left + left * tick / 10));
	printf(",[100,%.1f]]}\n", part(sorted, count, 1));
}

// Whether somebody interrupts. The signal is blocked, so that no request is cut short and then counted as lost.
static bool is_interrupted(void)
{
	sigset_t pending;
	return !sigpending(&pending) && sigismember(&pending, SIGINT);
}

#define LOST_MAX 10   // a path that is closed is no measurement

int pingpong_main(char **argv)
{
	uint64_t count = 0, size = 64, interval = 0, rate = 0, timeout = 1000;
	const char *words[2];
	options(argv, (struct option[]){ { "--count", NUMBER, &count }, { "--size", NUMBER, &size }, { "--interval-us", NUMBER, &interval },
		{ "--rate", NUMBER, &rate }, { "--timeout-ms", NUMBER, &timeout }, {} }, words, 2, 2);
	if (!count || size < 8 || size > 65000)
		fail("--count at least 1, --size 8 to 65000");
	struct sockaddr_in6 to = endpoint(words[0], words[1]);
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof to))
		fail("%s: %s", words[0], strerror(errno));
	double *times = malloc(count * sizeof *times);
	char *data = calloc(1, size);
	if (!times || !data)
		fail("out of memory");
	prctl(PR_SET_TIMERSLACK, 1);
	sigset_t interrupt;
	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGINT);
	sigprocmask(SIG_BLOCK, &interrupt, NULL);
	uint64_t sent = 0, answered = 0, first = now_ns();
	int lost_in_a_row = 0;
	for (uint64_t i = 0; i < count && !is_interrupted(); i++) {
		sent++;
		uint64_t from = rate ? due(first + i * 1000000000ull / rate) : 0;
		double took = round_trip(fd, data, size, i, timeout, from);
		lost_in_a_row = took < 0 ? lost_in_a_row + 1 : 0;
		if (lost_in_a_row == LOST_MAX)
			fail("%d requests in a row had no answer", LOST_MAX);
		if (took >= 0)
			times[answered++] = took;
		if (interval)
			sleep_ns(interval * 1000);
	}
	qsort(times, answered, sizeof *times, by_size);
	printf("{\"count\":%llu,\"lost\":%llu,\"size\":%llu,\"min_us\":%.1f,\"median_us\":%.1f,\"p90_us\":%.1f,"
		"\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f", (unsigned long long)sent,
		(unsigned long long)(sent - answered), (unsigned long long)size, part(times, answered, 0), part(times, answered, 0.5),
		part(times, answered, 0.9), part(times, answered, 0.99), part(times, answered, 0.999), part(times, answered, 1));
	distribution(times, answered);
	return answered == 0;
}
