// Runs inside the emulated machine: prints the NUMA node of each page of a process.
//   pages PID
// One line per mapping with pages: its name (or `-`), protection, address, then NODE=PAGES per node.

#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { page_bytes = 4096, step = 4096, node_max = 8 };

// Asks by move_pages(2) without nodes, which moves nothing.
static void show(int pid, uint64_t first, uint64_t last, const char *protection, const char *name)
{
    static void *pages[step];
    static int nodes[step];
    uint64_t counts[node_max] = { 0 }, sum = 0;
    for (uint64_t at = first; at < last;) {
        unsigned long count = 0;
        for (; at < last && count < step; at += page_bytes)
            pages[count++] = (void *)at;
        if (syscall(SYS_move_pages, pid, count, pages, NULL, nodes, 0)) {
            fprintf(stderr, "move_pages of %s: %s\n", name, strerror(errno));
            exit(1);
        }
        for (unsigned long i = 0; i < count; i++)
            if (nodes[i] >= 0 && nodes[i] < node_max) {   // Else a page that is not there: -ENOENT.
                counts[nodes[i]]++;
                sum++;
            }
    }
    if (!sum)
        return;
    printf("%s %s %" PRIx64, *name ? name : "-", protection, first);
    for (int node = 0; node < node_max; node++)
        if (counts[node])
            printf(" %d=%" PRIu64, node, counts[node]);
    putchar('\n');
}

int main(int count, char **words)
{
    char path[64], line[1024];
    int pid = count == 2 ? atoi(words[1]) : 0;
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "r");
    if (!maps) {
        perror(path);
        return 1;
    }
    while (fgets(line, sizeof line, maps)) {
        uint64_t first, last;
        char protection[8], name[512] = "";
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*s %*s %*s %511[^\n]", &first, &last, protection, name) < 3)
            return 1;
        for (char *at = name; *at; at++)
            if (*at == ' ')
                *at = '_';
        // The kernel's own page for the system calls of old is no process's.
        if (strcmp(name, "[vsyscall]"))
            show(pid, first, last, protection, name);
    }
    return 0;
}
