// Runs inside the emulated machine: sends each frame from the host, and reports the result.
//
// A message is a kind, a length (both 32 bits, little-endian) and that many bytes. The host sends
//   frame   to send into wire0         packet   to write to shuck0           `end`, which powers it off
// The guest sends `version` and `routes` (twice) once. For each frame or packet it sends the packets that left
// these devices, then `done`:
//   tunnel  16 bytes of a device's name, and the packet that the tunnel handed to the IP layer
//   pod     a packet forwarded to the pods      wire     a packet sent back towards the balancers
//
// Nothing waits for a timer: a marker follows each frame on the same path, and no packet comes out after the
// marker. One CPU handles one queue in order. A nest takes the queue once per layer, so two markers follow
// each frame.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { end, frame, packet, version, routes, tunnel, pod, wire, done };

static FILE *link_in, *link_out;
static unsigned char buffer[1 << 17];

static void fail(const char *what)
{
    fprintf(stderr, "oracle: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void tell(uint32_t kind, const char *device, const void *bytes, size_t length)
{
    char name[16] = { 0 };
    uint32_t head[2] = { kind, (uint32_t)(length + (device ? sizeof name : 0)) };
    if (device)
        strncpy(name, device, sizeof name - 1);
    if (fwrite(head, sizeof head, 1, link_out) != 1
        || (device && fwrite(name, sizeof name, 1, link_out) != 1)
        || (length && fwrite(bytes, length, 1, link_out) != 1))
        fail("the link to the host");
}

static void tell_file(uint32_t kind, const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        fail(path);
    size_t length = fread(buffer, 1, sizeof buffer, file);
    fclose(file);
    tell(kind, NULL, buffer, length);
}

static int open_device(const char *device, int protocol)
{
    int yes = 1, size = 8 << 20;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons((uint16_t)protocol),
        .sll_ifindex = (int)if_nametoindex(device),
    };
    if (fd < 0 || !address.sll_ifindex
        || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size)
        || setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof yes)
        || bind(fd, (struct sockaddr *)&address, sizeof address))
        fail(device);
    return fd;
}

static int open_tun(const char *device)
{
    struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
    strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
        fail("/dev/net/tun");
    return fd;
}

// The marker: an UDP datagram of 198.51.100.250 to 10.2.2.250, of its own in both ways.
enum { inner_bytes = 20 + 8 + 4 };
static const uint32_t marker_source = 0xc63364fa, marker_destination = 0x0a0202fa;

static void put_ipv4(unsigned char *at, int length, int protocol, uint32_t source, uint32_t destination)
{
    uint32_t sum = 0;
    memset(at, 0, 20);
    at[0] = 0x45;
    at[2] = (unsigned char)(length >> 8);
    at[3] = (unsigned char)length;
    at[8] = 64;
    at[9] = (unsigned char)protocol;
    for (int i = 0; i < 4; i++) {
        at[12 + i] = (unsigned char)(source >> (24 - 8 * i));
        at[16 + i] = (unsigned char)(destination >> (24 - 8 * i));
    }
    for (int i = 0; i < 20; i += 2)
        sum += (uint32_t)at[i] << 8 | at[i + 1];
    sum = ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
    at[10] = (unsigned char)(sum >> 8);
    at[11] = (unsigned char)sum;
}

static void put_marker(unsigned char *at, uint32_t number)
{
    static const unsigned char udp[8] = { 0, 7, 0, 7, 0, 12, 0, 0 };
    put_ipv4(at, inner_bytes, IPPROTO_UDP, marker_source, marker_destination);
    memcpy(at + 20, udp, sizeof udp);
    memcpy(at + 28, &number, sizeof number);
}

static int is_marker(const unsigned char *at, size_t length)
{
    static const unsigned char addresses[8] = { 198, 51, 100, 250, 10, 2, 2, 250 };
    return length == inner_bytes && at[0] == 0x45 && at[9] == IPPROTO_UDP
        && !memcmp(at + 12, addresses, sizeof addresses);
}

struct device {
    const char *name;
    uint32_t kind;
    int fd;
};

static struct device devices[] = {
    { "ipip1", tunnel, -1 }, { "ipip3", tunnel, -1 }, { "sit1", tunnel, -1 }, { "sit3", tunnel, -1 },
    { "ip6tnl1", tunnel, -1 }, { "ip6tnl3", tunnel, -1 }, { "wire0", wire, -1 }, { "pod0", pod, -1 },
};
enum { device_count = sizeof devices / sizeof *devices, pod_device = device_count - 1 };

// Hands over what a device has; whether the marker was among it.
static int drain(const struct device *device, uint32_t number)
{
    static const unsigned char pod_address[6] = { 2, 0, 0, 0, 0, 0x0c };
    int seen = 0;
    for (;;) {
        ssize_t length = recv(device->fd, buffer, sizeof buffer, MSG_TRUNC);
        if (length < 0) {
            if (errno == EAGAIN)
                return seen;
            fail(device->name);
        }
        int link = device->kind == tunnel ? 0 : ETH_HLEN;
        const unsigned char *network = buffer + link;
        size_t rest = (size_t)(length - link);
        if (length < link)
            continue;
        if (is_marker(network, rest)) {
            if (device->kind == pod)
                seen |= !memcmp(network + 28, &number, sizeof number);
            continue;
        }
        // The router's own multicast and ARP are no answer to a frame.
        if (device->kind != tunnel && (buffer[0] & 1 || (buffer[12] == 8 && buffer[13] == 6)))
            continue;
        if (device->kind == pod && memcmp(buffer, pod_address, 6))
            continue;
        tell(device->kind, device->kind == tunnel ? device->name : NULL, network, rest);
    }
}

static void settle(int wire_fd, int tun_fd, int by_wire, uint32_t number)
{
    unsigned char bytes[ETH_HLEN + 20 + inner_bytes] = { 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0 };
    unsigned char *outer = bytes + ETH_HLEN;
    put_ipv4(outer, 20 + inner_bytes, IPPROTO_IPIP, 0xc0000203, 0xc0000202);
    for (uint32_t round = 0; round < 2; round++) {
        uint32_t mark = number << 1 | round;
        put_marker(outer + 20, mark);
        ssize_t length = by_wire ? send(wire_fd, bytes, sizeof bytes, 0)
                                 : write(tun_fd, outer + 20, inner_bytes);
        if (length < 0)
            fail("marker");
        int seen = 0;
        while (!seen) {
            struct pollfd wait = { .fd = devices[pod_device].fd, .events = POLLIN };
            if (poll(&wait, 1, 10000) <= 0) {
                errno = ETIMEDOUT;
                fail("marker");
            }
            for (int i = 0; i < device_count; i++)
                seen |= drain(&devices[i], mark);
        }
    }
    tell(done, NULL, NULL, 0);
}

int main(void)
{
    struct utsname system;
    int fd = open("/dev/vport0p1", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        fail("/dev/vport0p1");
    link_in = fdopen(fd, "r");
    link_out = fdopen(dup(fd), "w");
    setvbuf(link_in, NULL, _IOFBF, 1 << 18);
    setvbuf(link_out, NULL, _IOFBF, 1 << 16);
    for (int i = 0; i < device_count; i++)
        devices[i].fd = open_device(devices[i].name, ETH_P_ALL);
    int wire_fd = open_device("wire0", 0), tun_fd = open_tun("shuck0");
    uname(&system);
    tell(version, NULL, system.release, strlen(system.release));
    tell_file(routes, "/routes4.json");
    tell_file(routes, "/routes6.json");
    fflush(link_out);

    static unsigned char bytes[1 << 17];
    uint32_t head[2], number = 0;
    while (fread(head, sizeof head, 1, link_in) == 1) {
        if (head[0] == end || head[0] > packet || head[1] > sizeof bytes)
            break;
        if (head[1] && fread(bytes, head[1], 1, link_in) != 1)
            break;
        if (!head[1]) {   // The host waits for its answers.
            fflush(link_out);
            continue;
        }
        // What the kernel will not even send or accept has no effect: that is its answer.
        ssize_t length = head[0] == frame ? send(wire_fd, bytes, head[1], 0) : write(tun_fd, bytes, head[1]);
        if (length < 0 && errno != EINVAL && errno != EMSGSIZE)
            fail(head[0] == frame ? "wire0" : "shuck0");
        settle(wire_fd, tun_fd, head[0] == frame, number++);
    }
    return 0;
}
