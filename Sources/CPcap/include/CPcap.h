// libpcap, for the verbs that read and write captures; the daemon never sees it.
#ifndef SHUCK_CPCAP_H
#define SHUCK_CPCAP_H

#include <features.h>
/* Its struct bpf_insn is classic BPF's; linux/bpf.h, which CLinux brings, has another one. */
#define bpf_insn pcap_bpf_insn
#include <pcap/pcap.h>
#undef bpf_insn

#endif
