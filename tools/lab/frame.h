// What verbs that build frames byte by byte share: big-endian words, the Internet checksum (RFC 1071), SplitMix64.
#ifndef FRAME_H
#define FRAME_H
#include <stddef.h>
#include <stdint.h>

static inline void put16(uint8_t *at, uint16_t value) { at[0] = value >> 8, at[1] = value; }

// Adds 16-bit words to a sum; an odd byte at the end counts as the upper half of one.
static inline uint64_t words(uint64_t sum, const uint8_t *at, size_t length)
{
	for (; length > 1; at += 2, length -= 2)
		sum += at[0] << 8 | at[1];
	return length ? sum + (at[0] << 8) : sum;
}

static inline uint16_t folded(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

// What SplitMix64 makes of a state.
static inline uint64_t mixed(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}
#endif
