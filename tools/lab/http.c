// The verbs serve (pod), fetch and push (client): deterministic content over HTTP/1.1, down and up, with its SHA-256.
// Only push sends bulk data through the decapsulator; fetch sends acknowledgements through it.
#define _GNU_SOURCE
#include "lab.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { CHUNK = 1 << 18, HEAD = 8192 };
static uint8_t chunk[CHUNK];

static bool send_all(int fd, const void *data, size_t length)
{
	for (const char *at = data; length;) {
		ssize_t n = send(fd, at, length, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n, length -= n;
	}
	return true;
}

// Reads up to the empty line that ends a head. Returns the bytes read, the head's own length in *head; 0 on failure.
static size_t read_head(int fd, char *buffer, size_t *head)
{
	size_t have = 0;
	while (have < HEAD - 1) {
		ssize_t n = recv(fd, buffer + have, HEAD - 1 - have, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		have += n;
		buffer[have] = 0;
		char *end = strstr(buffer, "\r\n\r\n");
		if (end) {
			*head = end + 4 - buffer;
			end[2] = 0;   // keeps string functions inside the head
			return have;
		}
	}
	return 0;
}

static uint64_t content_length(const char *head)
{
	const char *field = strcasestr(head, "\r\nContent-Length:");
	return field ? strtoull(field + 17, NULL, 10) : 0;
}

// ---- serve

static bool take_upload(int fd, const char *start, size_t have, uint64_t length, bool digest)
{
	struct sha256 sum;
	char hex[65] = "", reply[256], body[160];
	sha256_start(&sum);
	uint64_t got = 0;
	for (const void *data = start; got < length; data = chunk) {
		if (digest && have)
			sha256_add(&sum, data, have);
		got += have;
		if (got >= length)
			break;
		ssize_t n = recv(fd, chunk, length - got < CHUNK ? length - got : CHUNK, 0);
		if (n <= 0)
			return false;
		have = n;
	}
	if (digest)
		sha256_hex(&sum, hex);
	int n = snprintf(body, sizeof body, "{\"bytes\":%llu,\"sha256\":\"%s\"}\n", (unsigned long long)got, hex);
	n = snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: application/json\r\n\r\n%s", n, body);
	return send_all(fd, reply, n);
}

static bool send_content(int fd, int file, uint64_t size, bool body)
{
	char head[128];
	int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\nContent-Type: application/octet-stream\r\n\r\n",
		(unsigned long long)size);
	if (!send_all(fd, head, n))
		return false;
	for (off_t at = 0; body && at < (off_t)size;)
		if (sendfile(fd, file, &at, size - at) <= 0 && errno != EINTR)
			return false;
	return true;
}

static void serve_connection(int fd, int file, uint64_t size)
{
	char buffer[HEAD];
	size_t head, have;
	while ((have = read_head(fd, buffer, &head))) {
		bool more;
		if (!strncmp(buffer, "PUT ", 4) || !strncmp(buffer, "POST ", 5))
			more = take_upload(fd, buffer + head, have - head, content_length(buffer), !strstr(buffer, " /discard "));
		else
			more = send_content(fd, file, size, strncmp(buffer, "HEAD ", 5));
		if (!more || strcasestr(buffer, "\r\nConnection: close"))
			break;
	}
}

static int content_file(uint64_t size, uint64_t seed)
{
	int file = memfd_create("content", MFD_CLOEXEC);
	for (uint64_t at = 0; at < size; at += CHUNK) {
		size_t part = size - at < CHUNK ? size - at : CHUNK;
		content(seed, at, chunk, part);
		if (write(file, chunk, part) != (ssize_t)part)
			fail("content: %s", strerror(errno));
	}
	return file;
}

int serve_main(char **argv)
{
	uint64_t port = 80, size = 1 << 20, seed = 1;
	options(argv, (struct option[]){ { "--port", NUMBER, &port }, { "--size", NUMBER, &size }, { "--seed", NUMBER, &seed }, {} }, NULL, 0, 0);
	int file = content_file(size, seed), fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, off = 0;
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	if (bind(fd, (struct sockaddr *)&any, sizeof any) || listen(fd, 128))
		fail("port %llu: %s", (unsigned long long)port, strerror(errno));
	signal(SIGCHLD, SIG_IGN);
	printf("{\"port\":%llu,\"size\":%llu,\"seed\":%llu}\n", (unsigned long long)port, (unsigned long long)size, (unsigned long long)seed);
	fflush(stdout);   // the caller waits for this line
	for (;;) {
		int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (connection < 0)
			continue;
		if (!fork()) {
			serve_connection(connection, file, size);
			_exit(0);
		}
		close(connection);
	}
}

// ---- fetch and push

struct transfer {
	int fd;
	bool no_digest;
	const char *label;
	uint64_t size, done, start, shown, deadline;
};

static void progress(struct transfer *t, bool last)
{
	uint64_t now = now_ns();
	if (!t->label || (!last && now - t->shown < 100000000))
		return;
	t->shown = now;
	char bar[31];
	int filled = t->size ? t->done * 30 / t->size : 30;
	memset(bar, ' ', 30);
	memset(bar, '=', filled);
	bar[30] = 0;
	if (filled < 30)
		bar[filled] = '>';
	fprintf(stderr, "\r%s [%s] %3.0f%% %7.1f MB/s%s", t->label, bar, t->size ? 100.0 * t->done / t->size : 100.0,
		t->done / ((now - t->start) / 1e9 + 1e-9) / 1e6, last ? "\n" : "");
}

static void moved(struct transfer *t, ssize_t n)
{
	if (n <= 0)
		fail("after %llu of %llu bytes: %s", (unsigned long long)t->done, (unsigned long long)t->size,
			n == 0 ? "the connection ended" : errno == EAGAIN ? "nothing moves" : strerror(errno));
	t->done += n;
	if (now_ns() > t->deadline)
		fail("out of time after %llu of %llu bytes", (unsigned long long)t->done, (unsigned long long)t->size);
	progress(t, t->done == t->size);
}

static void dial(struct transfer *t, const char *host, const char *port, uint64_t timeout)
{
	struct sockaddr_in6 to = endpoint(host, port);
	// A stall shows as EAGAIN after this long, also in connect.
	struct timeval stall = { .tv_sec = timeout < 10 ? timeout : 10 };
	t->start = now_ns();
	t->deadline = t->start + timeout * 1000000000ull;
	t->fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(t->fd, SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof stall);
	setsockopt(t->fd, SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof stall);
	if (connect(t->fd, (struct sockaddr *)&to, sizeof to))
		fail("connecting to %s: %s", host, errno == EINPROGRESS ? "no answer" : strerror(errno));
	if (!t->label && isatty(STDERR_FILENO))
		t->label = host;
}

static void report(struct transfer *t, const char *hex)
{
	struct tcp_info info = {};
	socklen_t length = sizeof info;
	int mss = 0;
	double seconds = (now_ns() - t->start) / 1e9;
	getsockopt(t->fd, IPPROTO_TCP, TCP_INFO, &info, &length);
	length = sizeof mss;
	getsockopt(t->fd, IPPROTO_TCP, TCP_MAXSEG, &mss, &length);
	// The kernel's value has the space of timestamps taken off; the peer's option has not.
	int announced = mss + (info.tcpi_options & TCPI_OPT_TIMESTAMPS ? 12 : 0);
	printf("{\"sha256\":\"%s\",\"bytes\":%llu,\"seconds\":%.4f,\"mbit_per_s\":%.1f,\"mss\":%d,\"mss_announced\":%d,"
		"\"rcv_mss\":%u,\"retransmits\":%u}\n", hex, (unsigned long long)t->done, seconds, t->done * 8 / seconds / 1e6,
		mss, announced, info.tcpi_rcv_mss, info.tcpi_total_retrans);
}

static void request(struct transfer *t, const char *head, char *answer, size_t *length, size_t *have)
{
	if (head && !send_all(t->fd, head, strlen(head)))
		fail("sending the request: %s", strerror(errno));
	if (!answer)
		return;
	*have = read_head(t->fd, answer, length);
	if (!*have)
		fail("no answer to the request");
	if (strncmp(answer, "HTTP/1.1 200 ", 13))
		fail("answer: %.*s", (int)strcspn(answer, "\r\n"), answer);
}

int fetch_main(char **argv)
{
	struct transfer t = {};
	uint64_t timeout = 60;
	const char *words[2] = {};
	options(argv, (struct option[]){ { "--progress", TEXT, &t.label }, { "--no-digest", FLAG, &t.no_digest },
		{ "--timeout", NUMBER, &timeout }, {} }, words, 1, 2);
	char answer[HEAD], hex[65] = "";
	size_t head, have;
	struct sha256 sum;
	dial(&t, words[0], words[1], timeout);
	request(&t, "GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n", answer, &head, &have);
	t.size = content_length(answer);
	sha256_start(&sum);
	sha256_add(&sum, answer + head, have - head);
	if (have > head)
		moved(&t, have - head);
	while (t.done < t.size) {
		ssize_t n = recv(t.fd, chunk, CHUNK, 0);
		moved(&t, n);
		if (!t.no_digest)
			sha256_add(&sum, chunk, n);
	}
	if (t.done != t.size)
		fail("%llu bytes instead of %llu", (unsigned long long)t.done, (unsigned long long)t.size);
	if (!t.no_digest)
		sha256_hex(&sum, hex);
	report(&t, hex);
	return 0;
}

int push_main(char **argv)
{
	struct transfer t = {};
	uint64_t timeout = 60, seed = 1;
	const char *words[2] = {};
	options(argv, (struct option[]){ { "--size", NUMBER, &t.size }, { "--seed", NUMBER, &seed }, { "--progress", TEXT, &t.label },
		{ "--no-digest", FLAG, &t.no_digest }, { "--timeout", NUMBER, &timeout }, {} }, words, 1, 2);
	char head[160], answer[HEAD], hex[65] = "";
	size_t length, have;
	dial(&t, words[0], words[1], timeout);
	snprintf(head, sizeof head, "PUT %s HTTP/1.1\r\nHost: lab\r\nContent-Length: %llu\r\nConnection: close\r\n\r\n",
		t.no_digest ? "/discard" : "/", (unsigned long long)t.size);
	request(&t, head, NULL, NULL, NULL);
	content(seed, 0, chunk, CHUNK);
	while (t.done < t.size) {
		size_t part = t.size - t.done < CHUNK ? t.size - t.done : CHUNK;
		if (!t.no_digest)   // without a digest the first chunk is repeated: making content must not be what is measured
			content(seed, t.done, chunk, part);
		uint64_t before = t.done;
		for (size_t sent = 0; sent < part; sent = t.done - before)
			moved(&t, send(t.fd, chunk + sent, part - sent, MSG_NOSIGNAL));
	}
	request(&t, NULL, answer, &length, &have);
	// The server's digest: of what arrived, so this is what the caller compares with "lab digest".
	answer[have] = 0;
	const char *sum = strstr(answer + length, "\"sha256\":\"");
	if (sum)
		snprintf(hex, sizeof hex, "%.64s", sum + 10);
	if (!sum || (!t.no_digest && strlen(hex) != 64))
		fail("the server sent no digest");
	report(&t, t.no_digest ? "" : hex);
	return 0;
}
