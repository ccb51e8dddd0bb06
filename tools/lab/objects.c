// The BPF objects, embedded, so that the executable can be copied alone.
#include "lab.h"
#include <errno.h>
#include <string.h>

#define EMBED(name) \
	__asm__(".section .rodata\n.balign 16\n" #name "_object: .incbin \"" #name ".bpf.o\"\n" #name "_object_end:\n.previous"); \
	extern const char name##_object[], name##_object_end[];

EMBED(encap)
EMBED(decap)
EMBED(sink)
EMBED(generate)

// libbpf tells of a clsact that is there already as if it were an error; what matters comes back as a return value.
static int quiet(enum libbpf_print_level level, const char *format, va_list list)
{
	(void)level, (void)format, (void)list;
	return 0;
}

struct bpf_object *open_object(const char *name)
{
	static const struct { const char *name, *start, *end; } objects[] = {
		{ "encap", encap_object, encap_object_end }, { "decap", decap_object, decap_object_end },
		{ "sink", sink_object, sink_object_end }, { "generate", generate_object, generate_object_end },
	};
	libbpf_set_print(quiet);
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	for (size_t i = 0; i < sizeof objects / sizeof *objects; i++) {
		if (strcmp(objects[i].name, name))
			continue;
		LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = name);
		struct bpf_object *object = bpf_object__open_mem(objects[i].start, objects[i].end - objects[i].start, &opts);
		if (!object)
			fail("BPF object %s: %s", name, strerror(errno));
		return object;
	}
	fail("no BPF object %s", name);
}
