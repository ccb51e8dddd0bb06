// Runs inside the emulated machine: sends frames and counts the machine's instructions until all packets come out.
//   stream DEVICE SINK BURST COUNT HEADERS PAYLOAD FILE
// FILE holds frames, each behind its length (32 bits, little-endian). The program sends them in turn, BURST at once, and
// waits for each burst at SINK. Packets may arrive coalesced, so it waits for PAYLOAD bytes per frame: the bytes at SINK
// less HEADERS bytes per packet. It sends a burst with real-time priority, so that nothing handles a part of the burst.
// It prints instructions, packets sent, and packets that SINK received.
//
// Under `-icount shift=0` the time-stamp counter counts all instructions of the one CPU, of kernel and processes. The
// program never sleeps, so that no idle time counts.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <x86intrin.h>

enum { burst_max = 64, frames_max = 4096 };

static struct iovec frames[frames_max];
static int frame_count;

static void fail(const char *what)
{
    fprintf(stderr, "stream: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void load(const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        fail(path);
    for (uint32_t length; frame_count < frames_max && fread(&length, sizeof length, 1, file) == 1; frame_count++) {
        frames[frame_count] = (struct iovec){ malloc(length), length };
        if (fread(frames[frame_count].iov_base, length, 1, file) != 1)
            fail(path);
    }
    fclose(file);
}

static uint64_t value(int counter)
{
    char text[32];
    ssize_t length = pread(counter, text, sizeof text - 1, 0);
    if (length <= 0)
        fail("the counter");
    text[length] = 0;
    return strtoull(text, NULL, 10);
}

static int sink_counter(const char *sink, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/class/net/%s/statistics/%s", sink, name);
    int counter = open(path, O_RDONLY);
    if (counter < 0)
        fail(path);
    return counter;
}

struct sink {
    int packets, bytes;
    uint64_t headers;
};

static uint64_t payload(const struct sink *sink)
{
    return value(sink->bytes) - sink->headers * value(sink->packets);
}

static void run_as(int policy, int priority)
{
    if (sched_setscheduler(0, policy, &(struct sched_param){ .sched_priority = priority }))
        fail("sched_setscheduler");
}

// Sends `count` frames and waits until all of each burst has come. Instructions that it took.
static uint64_t stream(int out, const struct sink *sink, int burst, int count, uint64_t payload_bytes)
{
    static struct mmsghdr messages[burst_max];
    uint64_t awaited = payload(sink), start = __rdtsc();
    for (int sent = 0; sent < count;) {
        for (int i = 0; i < burst; i++)
            messages[i].msg_hdr = (struct msghdr){ .msg_iov = &frames[(sent + i) % frame_count], .msg_iovlen = 1 };
        if (burst > 1)
            run_as(SCHED_FIFO, 1);
        if (sendmmsg(out, messages, (unsigned)burst, 0) != burst)
            fail("sendmmsg");
        if (burst > 1)
            run_as(SCHED_OTHER, 0);
        sent += burst;
        awaited += (uint64_t)burst * payload_bytes;
        for (long tries = 0; payload(sink) != awaited; tries++) {
            if (tries == 200000) {
                errno = ETIMEDOUT;
                fail("the sink");
            }
            sched_yield();
        }
    }
    return __rdtsc() - start;
}

// Two instructions a turn: whether the counter is what it is taken for. The fewest of some tries, for the timer's
// interrupts fall into others.
static void check_counter(void)
{
    enum { turns = 200000 };
    uint64_t fewest = UINT64_MAX;
    for (int tries = 0; tries < 20; tries++) {
        long left = turns;
        uint64_t start = __rdtsc();
        __asm__ volatile("1: dec %0\n jnz 1b" : "+r"(left));
        uint64_t taken = __rdtsc() - start;
        if (taken < fewest)
            fewest = taken;
    }
    if (fewest < 2 * turns || fewest > 2 * turns + turns / 100) {
        fprintf(stderr, "stream: %d instructions are %llu ticks\n", 2 * turns, (unsigned long long)fewest);
        exit(1);
    }
}

int main(int argc, char **words)
{
    if (argc != 8)
        return 2;
    check_counter();
    int burst = atoi(words[3]), count = atoi(words[4]);
    uint64_t payload_bytes = strtoull(words[6], NULL, 10);
    load(words[7]);
    if (!frame_count || burst < 1 || burst > burst_max || count % burst || !payload_bytes)
        return 2;
    struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(words[1]) };
    int out = socket(AF_PACKET, SOCK_RAW, 0);
    if (out < 0 || !address.sll_ifindex || bind(out, (struct sockaddr *)&address, sizeof address))
        fail(words[1]);
    struct sink sink = { sink_counter(words[2], "rx_packets"), sink_counter(words[2], "rx_bytes"),
                         strtoull(words[5], NULL, 10) };
    // The first ones fill caches and tables.
    stream(out, &sink, burst, burst * 8, payload_bytes);
    uint64_t before = value(sink.packets), instructions = stream(out, &sink, burst, count, payload_bytes);
    printf("%llu %d %llu\n", (unsigned long long)instructions, count,
           (unsigned long long)(value(sink.packets) - before));
    return 0;
}
