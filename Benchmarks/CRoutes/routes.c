// See routes.h.
#include "routes.h"

#include <stdlib.h>
#include <string.h>

typedef int16_t keys_t __attribute__((vector_size(16)));

static void init(struct routes_trie *trie, unsigned root) {
    trie->root = root;
    trie->used = (size_t)1 << root;
    trie->capacity = trie->used + (1 << 23);
    if (posix_memalign((void **)&trie->words, 64, trie->capacity * 4)) abort();
    memset(trie->words, 0, trie->used * 4);
    memset(trie->records, 0, sizeof trie->records);
    for (int i = 1; i < 64; i++) trie->records[i].kind = 1;
}

static uint32_t bits(const struct routes_prefix *prefix, unsigned depth, unsigned width) {
    uint64_t word = depth < 64 ? prefix->high : prefix->low;
    return (uint32_t)(word >> (64 - depth % 64 - width)) & ((1u << width) - 1);
}

static uint32_t node(struct routes_trie *trie, size_t size) {
    uint32_t first = (uint32_t)trie->used;
    trie->used += size;
    if (trie->used > trie->capacity) abort();
    return first;
}

static uint32_t value(const struct routes_prefix *prefix) { return prefix->length << 23 | prefix->value; }

static void add4(struct routes_trie *trie, const struct routes_prefix *prefix) {
    unsigned depth = 0, width = trie->root;
    uint32_t base = 0;
    while (prefix->length > depth + width) {
        uint32_t place = base + bits(prefix, depth, width), entry = trie->words[place];
        if (!(entry & ROUTES_CHILD)) {
            uint32_t child = node(trie, 256);
            for (int i = 0; i < 256; i++) trie->words[child + i] = entry;
            trie->words[place] = entry = child | (uint32_t)ROUTES_LOW << 29;
        }
        base = entry & ROUTES_INDEX;
        depth += width;
        width = 8;
    }
    uint32_t count = 1u << (depth + width - prefix->length);
    uint32_t first = (base + bits(prefix, depth, width)) & ~(count - 1);
    for (uint32_t i = 0; i < count; i++)
        if (!(trie->words[first + i] & ROUTES_CHILD)) trie->words[first + i] = value(prefix);
}

void routes_init4(struct routes_trie *trie, unsigned root, const struct routes_prefix *prefixes, size_t count) {
    init(trie, root);
    for (size_t i = 0; i < count; i++) add4(trie, prefixes + i);
}

struct piece { uint32_t last, word; };

static uint32_t ranges(struct routes_trie *trie, const struct piece *pieces, size_t count) {
    uint32_t first = node(trie, count <= 8 ? 16 : 32);
    uint16_t *keys = (uint16_t *)(trie->words + first);
    for (size_t i = 0; i < 16; i++) keys[i] = (i + 1 < count ? pieces[i].last : 0xffff) ^ 0x8000;
    for (size_t i = 0; i < count; i++) trie->words[first + 8 + i] = pieces[i].word;
    return first | (uint32_t)ROUTES_RANGES << 29;
}

// Writes one word for each of `count` keys from `key` on.
static void spread(struct routes_trie *trie, uint32_t first, const struct piece *pieces, uint32_t key, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        while (pieces->last < key + i) pieces++;
        trie->words[first + i] = pieces->word;
    }
}

static uint32_t bytes(struct routes_trie *trie, const struct piece *pieces) {
    uint32_t high = node(trie, 256);
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t first = byte << 8, last = first | 255;
        while (pieces->last < first) pieces++;
        struct piece part[256];
        size_t count = 0;
        do part[count] = pieces[count];
        while (pieces[count++].last < last);
        if (count == 1) {
            trie->words[high + byte] = part[0].word;
        } else if (count <= 16) {
            trie->words[high + byte] = ranges(trie, part, count);
        } else {
            uint32_t low = node(trie, 256);
            spread(trie, low, part, first, 256);
            trie->words[high + byte] = low | (uint32_t)ROUTES_LOW << 29;
        }
    }
    return high | (uint32_t)ROUTES_HIGH << 29;
}

static int by_number(const void *left, const void *right) {
    return *(const int *)left - *(const int *)right;
}

static uint32_t build(struct routes_trie *trie, const struct routes_prefix **prefixes, size_t count,
                      unsigned depth, uint32_t inherited);

// The word of a key: that of the longest prefix that ends within the 16 bits, or of what is below.
static uint32_t word(struct routes_trie *trie, const struct routes_prefix **prefixes, size_t count,
                     unsigned depth, uint32_t key, uint32_t inherited) {
    const struct routes_prefix **below = malloc(count * sizeof *below);
    size_t more = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned width = prefixes[i]->length - depth;
        if (width > 16) width = 16;
        if (bits(prefixes[i], depth, 16) >> (16 - width) != key >> (16 - width)) continue;
        if (prefixes[i]->length > depth + 16) below[more++] = prefixes[i];
        else inherited = value(prefixes[i]);
    }
    if (more) inherited = build(trie, below, more, depth + 16, inherited);
    free(below);
    return inherited;
}

// A node for prefixes of more than `depth` bits that share those.
static uint32_t build(struct routes_trie *trie, const struct routes_prefix **prefixes, size_t count,
                      unsigned depth, uint32_t inherited) {
    int *ends = malloc((2 * count + 1) * sizeof *ends);
    for (size_t i = 0; i < count; i++) {
        unsigned width = prefixes[i]->length > depth + 16 ? 0 : depth + 16 - prefixes[i]->length;
        uint32_t first = bits(prefixes[i], depth, 16) >> width << width;
        ends[2 * i] = (int)first - 1;
        ends[2 * i + 1] = (int)(first + (1u << width) - 1);
    }
    ends[2 * count] = 0xffff;
    qsort(ends, 2 * count + 1, sizeof *ends, by_number);
    struct piece *pieces = malloc((2 * count + 1) * sizeof *pieces);
    size_t used = 0;
    for (size_t i = 0; i <= 2 * count; i++) {
        if (ends[i] < 0 || (used && pieces[used - 1].last == (uint32_t)ends[i])) continue;
        uint32_t found = word(trie, prefixes, count, depth, (uint32_t)ends[i], inherited);
        if (used && pieces[used - 1].word == found) used--;
        pieces[used++] = (struct piece){(uint32_t)ends[i], found};
    }
    uint32_t entry;
    if (used <= 16) {
        entry = ranges(trie, pieces, used);
    } else if (used <= 2048) {
        entry = bytes(trie, pieces);
    } else {
        uint32_t whole = node(trie, 1 << 16);
        spread(trie, whole, pieces, 0, 1 << 16);
        entry = whole | (uint32_t)ROUTES_WHOLE << 29;
    }
    free(ends);
    free(pieces);
    return entry;
}

void routes_init6(struct routes_trie *trie, const struct routes_prefix *prefixes, size_t count) {
    init(trie, 16);
    const struct routes_prefix **all = malloc(count * sizeof *all);
    for (size_t i = 0; i < count; i++) all[i] = prefixes + i;
    uint8_t *is_there = calloc(1 << 16, 1);
    for (size_t i = 0; i < count; i++) is_there[bits(all[i], 0, 16)] = 1;
    for (uint32_t key = 0; key < 1 << 16; key++)
        if (is_there[key]) trie->words[key] = word(trie, all, count, 0, key, 0);
    free(is_there);
    free(all);
}

static inline uint32_t find4(const struct routes_trie *trie, uint32_t address) {
    const uint32_t *words = trie->words;
    unsigned shift = 32 - trie->root;
    uint32_t entry = words[address >> shift];
    while (entry & ROUTES_CHILD) {
        shift -= 8;
        entry = words[(entry & ROUTES_INDEX) | (address >> shift & 255)];
    }
    return entry;
}

static inline uint32_t range(const uint32_t *node, uint32_t key) {
    const keys_t *lasts = (const keys_t *)node;
    int16_t top = (int16_t)(key ^ 0x8000);
    keys_t wanted = {top, top, top, top, top, top, top, top};
    keys_t sum = (lasts[0] < wanted) + (lasts[1] < wanted);
    int16_t total = 0;
    for (int i = 0; i < 8; i++) total += sum[i];
    return (uint32_t)-total;
}

static inline uint32_t find6(const struct routes_trie *trie, uint64_t high, uint64_t low) {
    const uint32_t *words = trie->words;
    uint32_t entry = words[high >> 48];
    uint64_t bits = high << 16;
    int left = 48;
    while (entry & ROUTES_CHILD) {
        uint32_t node = entry & ROUTES_INDEX, key = (uint32_t)(bits >> 48), form = entry >> 29;
        if (form == ROUTES_RANGES) {
            entry = words[node + 8 + range(words + node, key)];
        } else if (form == ROUTES_WHOLE) {
            entry = words[node + key];
        } else if (form == ROUTES_LOW) {
            entry = words[node + (key & 255)];
        } else {
            entry = words[node + (key >> 8)];
            continue;
        }
        bits <<= 16;
        left -= 16;
        if (left == 0) bits = low;
    }
    return entry;
}

uint32_t routes_find4(const struct routes_trie *trie, uint32_t address) {
    return find4(trie, address) & ROUTES_VALUE;
}

uint32_t routes_find6(const struct routes_trie *trie, uint64_t high, uint64_t low) {
    return find6(trie, high, low) & ROUTES_VALUE;
}

#define FIND4(more) find4(trie, addresses[i] + more)
#define FIND6(more) find6(trie, addresses[2 * i] + more, addresses[2 * i + 1])
// Two loops, as a mask of no bits is waited for as well.
#define RUN(FIND)                                                                   \
    uint64_t sum = 0;                                                               \
    uint32_t last = 0;                                                              \
    if (mask == 0)                                                                  \
        for (size_t i = 0; i < count; i++) sum += trie->records[FIND(0) & ROUTES_VALUE].kind;      \
    else                                                                            \
        for (size_t i = 0; i < count; i++) sum += last = trie->records[FIND((last & mask)) & ROUTES_VALUE].kind; \
    return sum;

uint64_t routes_run4(const struct routes_trie *trie, const uint32_t *addresses, size_t count, uint32_t mask) {
    RUN(FIND4)
}

uint64_t routes_run6(const struct routes_trie *trie, const uint64_t *addresses, size_t count, uint32_t mask) {
    RUN(FIND6)
}
