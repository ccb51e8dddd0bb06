// The deterministic content of downloads, its SHA-256 (FIPS 180-4), and the verb digest.
#include "lab.h"
#include <stdio.h>
#include <string.h>

// splitmix64 by position: any part can be computed without the parts before it.
static uint64_t word_at(uint64_t seed, uint64_t index)
{
	uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15ull;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

void content(uint64_t seed, uint64_t offset, void *to, size_t length)
{
	for (size_t done = 0; done < length; done += 8) {
		uint64_t word = word_at(seed, (offset + done) / 8);
		memcpy((char *)to + done, &word, length - done < 8 ? length - done : 8);
	}
}

static const uint32_t constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void compress(uint32_t state[8], const uint8_t *block)
{
	uint32_t w[64], s[8];
	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
	for (int i = 16; i < 64; i++) {
		uint32_t a = w[i - 15], b = w[i - 2];
		w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] + (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
	}
	memcpy(s, state, sizeof s);
	for (int i = 0; i < 64; i++) {
		uint32_t e = s[4], a = s[0];
		uint32_t one = s[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + constants[i] + w[i];
		uint32_t two = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
		memmove(s + 1, s, 7 * sizeof *s);
		s[4] += one;
		s[0] = one + two;
	}
	for (int i = 0; i < 8; i++)
		state[i] += s[i];
}

void sha256_start(struct sha256 *s)
{
	static const uint32_t first[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	memcpy(s->state, first, sizeof first);
	s->length = 0;
}

void sha256_add(struct sha256 *s, const void *data, size_t length)
{
	const uint8_t *at = data;
	size_t held = s->length % 64;
	s->length += length;
	if (held) {
		size_t take = length < 64 - held ? length : 64 - held;
		memcpy(s->block + held, at, take);
		at += take, length -= take;
		if (held + take < 64)
			return;
		compress(s->state, s->block);
	}
	for (; length >= 64; at += 64, length -= 64)
		compress(s->state, at);
	memcpy(s->block, at, length);
}

void sha256_hex(struct sha256 *s, char hex[65])
{
	uint64_t bits = s->length * 8;
	uint8_t end[72] = { 0x80 };
	size_t padding = (s->length % 64 < 56 ? 56 : 120) - s->length % 64;
	for (int i = 0; i < 8; i++)
		end[padding + i] = bits >> (56 - 8 * i);
	sha256_add(s, end, padding + 8);
	for (int i = 0; i < 8; i++)
		sprintf(hex + 8 * i, "%08x", s->state[i]);
}

int digest_main(char **argv)
{
	uint64_t size = 0, seed = 1;
	options(argv, (struct option[]){ { "--size", NUMBER, &size }, { "--seed", NUMBER, &seed }, {} }, NULL, 0, 0);
	static uint8_t buffer[1 << 16];
	struct sha256 sum;
	char hex[65];
	sha256_start(&sum);
	for (uint64_t at = 0; at < size; at += sizeof buffer) {
		size_t part = size - at < sizeof buffer ? size - at : sizeof buffer;
		content(seed, at, buffer, part);
		sha256_add(&sum, buffer, part);
	}
	sha256_hex(&sum, hex);
	puts(hex);
	return 0;
}
