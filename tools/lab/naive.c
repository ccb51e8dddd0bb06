// The verb naive: a decapsulator that can be written in an afternoon. One process per pair of families blocks in recv on
// a raw socket and writes the packet behind the outer header to a TUN device. It checks nothing. It supports neither GRO
// super-frames nor unfinished checksums.
#define _GNU_SOURCE
#include "lab.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int tun(const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
		fail("/dev/net/tun: %s", strerror(errno));
	return fd;
}

_Noreturn static void forward(int from, bool six, int to)
{
	static uint8_t packet[65536];
	for (;;) {
		ssize_t length = recv(from, packet, sizeof packet, 0);
		// The kernel gives the outer IPv4 header to raw sockets, the IPv6 one it keeps.
		size_t outer = six ? 0 : (packet[0] & 15) * 4;
		if (length > (ssize_t)outer && write(to, packet + outer, length - outer) < 0 && errno == EBADFD)
			fail("the device is gone");
	}
}

int naive_main(char **argv)
{
	const char *device;
	options(argv, (struct option[]){ {} }, &device, 1, 1);
	int to = tun(device);
	pid_t parent = getpid();
	for (int m = 0; m < MODES; m++) {
		bool six = outer_is6(m);
		int from = socket(six ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC, inner_is6(m) ? IPPROTO_IPV6 : IPPROTO_IPIP);
		if (from < 0)
			fail("a raw socket: %s", strerror(errno));
		pid_t child = fork();
		if (child < 0)
			fail("fork: %s", strerror(errno));
		if (!child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() == parent)
				forward(from, six, to);
			return 1;
		}
		close(from);
	}
	printf("{\"device\":\"%s\"}\n", device);
	fflush(stdout);   // the caller waits for this line
	while (wait(NULL) > 0)
		continue;
	return 1;
}
