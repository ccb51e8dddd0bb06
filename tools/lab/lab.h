// Shared by the lab's verbs: options, time, failure, addresses, and each verb's entry.
#ifndef LAB_H
#define LAB_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <bpf/libbpf.h>

// An option of a verb. NUMBER takes K, M and G (powers of 1024); LIST appends to a struct list.
struct option { const char *name; enum { TEXT, NUMBER, FLAG, LIST } kind; void *into; };
struct list { const char *items[64]; int count; };

// Reads argv into the options and the words between them into `words`; ends the program on anything unknown, and when
// the words are fewer than `least` or more than `most`.
int options(char **argv, const struct option *known, const char **words, int least, int most);

_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t now_ns(void);
void sleep_ns(uint64_t ns);
uint64_t number(const char *text);
unsigned interface_index(const char *name);

// Writes an address as 16 bytes, IPv4 as ::ffff:a.b.c.d; returns 4 or 6.
int address(const char *text, uint8_t bytes[16]);
// A socket address (IPv4-mapped for IPv4, so that one AF_INET6 socket serves both) from words or a URL.
struct sockaddr_in6 endpoint(const char *host, const char *port);

enum mode { IPIP, IP6IP, IPIP6, IP6IP6, MODES };
extern const char *const mode_names[MODES];
enum mode mode_named(const char *name);
static inline bool outer_is6(enum mode m) { return m == IPIP6 || m == IP6IP6; }
static inline bool inner_is6(enum mode m) { return m == IP6IP || m == IP6IP6; }
// The rig's addresses of a mode.
const char *mode_vip(enum mode m);
#define BALANCER4 "192.0.2.1"
#define NODE4 "192.0.2.2"
#define BALANCER6 "2001:db8:1::1"
#define NODE6 "2001:db8:1::2"

// SHA-256 (FIPS 180-4).
struct sha256 { uint32_t state[8]; uint64_t length; uint8_t block[64]; };
void sha256_start(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t length);
void sha256_hex(struct sha256 *s, char hex[65]);

// The deterministic content: bytes [offset, offset + length) of the stream of a seed; offset is a multiple of 8.
void content(uint64_t seed, uint64_t offset, void *to, size_t length);

// BPF objects, embedded (objects.c).
struct bpf_object *open_object(const char *name);

int encap_main(char **argv), decap_main(char **argv), sink_main(char **argv), generate_main(char **argv);
int naive_main(char **argv);
int serve_main(char **argv), fetch_main(char **argv), push_main(char **argv), digest_main(char **argv);
int pingpong_main(char **argv), echo_main(char **argv), send_raw_main(char **argv), same_main(char **argv);
int stream_main(char **argv), without_io_uring_main(char **argv);
#endif
