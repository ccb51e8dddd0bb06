// Joining: what leaves the node is what came in, byte by byte and in order, whatever the kernel refuses.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct JoiningTests {
        @Test("joined, and cut by the kernel: each packet as it was sent")
        func cutsBack() throws {
            // Nothing is left to the links: the kernel cuts before the pod's, and joins nowhere.
            try Rig.with(offloads: .off) { rig in
                // What comes to no address of the pod's is not answered.
                try rig.ip(.pod, "address flush dev lo\n")
                var answers: [Answer] = []
                for coalesce in [true, false] {
                    let daemon = try Daemon.ready(rig, Self.setup(coalesce: coalesce))
                    let answer = try Self.same(rig, packets: 30_000)
                    #expect(answer["wrong_checksums"] > 300 && answer["lost"] > 300)
                    #expect(answer["reordered"] > 100 && answer["twice"] > 100)
                    #expect(answer["delivered"] == answer["sent"] - answer["refused"])
                    answers.append(answer)
                    try daemon.wait(received: answer["sent"])
                    let status = try daemon.status()
                    #expect(status.joining == (coalesce ? "on" : "off"))
                    #expect(status.devices[0].joins == (coalesce ? ["tcp", "udp"] : []))
                    #expect(status.dropsByReason == ["ip_csum": answer["refused"]])
                    let metrics = try daemon.metrics()
                    let writes = metrics.sum("shuck_injected_writes_total")
                    let injected = metrics.sum("shuck_injected_packets_total")
                    #expect(injected == answer["delivered"])
                    #expect(coalesce ? writes * 10 < injected * 8 : writes == injected)
                    #expect(metrics.sum("shuck_refused_joins_total") == 0)
                    try daemon.expectConservation()
                    #expect(try daemon.stop().status == 0)
                }
                #expect(answers[0].text("digest") == answers[1].text("digest"))
            }
        }

        @Test("a kernel that refuses to cut: singly from then on, and nothing is lost")
        func refusedRun() throws {
            try Rig.with(offloads: .on) { rig in
                let daemon = try Self.spoiled(rig)
                try rig.run(.pod, Tools.lab, "sink", "attach", "eth0")
                // No more than the ring holds, so that none is lost while the worker has no CPU.
                let sent = try rig.lab(
                    .balancer, "generate", "back", "--mode", "ipip", "--rate", "50000",
                    "--seconds", "0.1")
                try eventually("all packets to be injected") {
                    try daemon.metrics().sum("shuck_received_packets_total") == sent["sent"]
                }
                let sink = try rig.sink(awaiting: sent["sent"])
                #expect(sink["packets"] == sent["sent"] && sink["frames"] == sent["sent"], "\(sink)")
                #expect(sink["out_of_order"] + sink["duplicates"] + sink["skipped"] == 0, "\(sink)")
                try Self.expectFallback(daemon, left: ["tcp"])
                #expect(try daemon.status().packets["injected"] == sent["sent"])
            }
        }

        @Test("a kernel that refuses to cut, in mixed traffic: no packet comes late")
        func refusedRuns() throws {
            try Rig.with(offloads: .off) { rig in
                try rig.ip(.pod, "address flush dev lo\n")
                let daemon = try Self.spoiled(rig)
                let answer = try Self.same(rig, packets: 5_000, "--lossy")
                try daemon.wait(received: answer["sent"])
                try Self.expectFallback(daemon, left: [])
                // Lost is only what stood before packets of its flow that were written already.
                let drops = try daemon.status().dropsByReason
                #expect(drops["gso_invalid", default: 0] == answer["missing"], "\(drops)")
                #expect(drops["ip_csum"] == answer["refused"])
                // From then on nothing is refused.
                let more = try Self.same(rig, packets: 5_000)
                #expect(more["missing"] == 0)
            }
        }

        private static func setup(coalesce: Bool = true) -> Setup {
            Setup(coalesce: coalesce, more: ["mss: {ipv4: off, ipv6: off}"])
        }

        /// On the worker's CPU, so that a window of frames lies in the ring when it is woken.
        private static func same(_ rig: Rig, packets: Int, _ options: String...) throws -> Answer {
            let command = [
                "taskset", "-c", "0", Tools.lab, "same", "\(rig.name)-balancer", "back",
                "\(rig.name)-pod", "eth0", "--packets", "\(packets)",
            ]
            return try Answer(rig.launch(command + options).wait().get())
        }

        private static func expectFallback(_ daemon: Daemon, left: [String]) throws {
            let (status, metrics) = (try daemon.status(), try daemon.metrics())
            #expect(status.devices[0].joins == left)
            #expect(status.joining == "on, but shuck0 \(left.isEmpty ? "nothing" : "tcp only")")
            #expect(status.notes.contains { $0.contains("the kernel refused joined segments") })
            #expect(metrics.sum("shuck_refused_joins_total") > 0)
            try daemon.expectConservation()
        }

        /// shuck under a library that puts a kind of segments that no kernel knows into the header
        /// of each joined write: this host's kernel then refuses it, as one does that lacks the kind.
        private static func spoiled(_ rig: Rig) throws -> Daemon {
            let path = rig.directory + "/spoil"
            let source = """
                #define _GNU_SOURCE
                #include <dlfcn.h>
                #include <liburing.h>

                int io_uring_submit_and_get_events(struct io_uring *ring)
                {
                    static int (*next)(struct io_uring *);
                    if (!next)
                        next = (int (*)(struct io_uring *))dlsym(RTLD_NEXT, __func__);
                    for (unsigned at = ring->sq.sqe_head; at != ring->sq.sqe_tail; at++) {
                        struct io_uring_sqe *entry = &ring->sq.sqes[at & *ring->sq.kring_mask];
                        if (entry->opcode != IORING_OP_WRITEV)
                            continue;
                        unsigned char *header = ((struct iovec *)entry->addr)->iov_base;
                        if (header[1])   // virtio_net_hdr.gso_type
                            header[1] = 0x7f;
                    }
                    return next(ring);
                }

                """
            try source.write(toFile: path + ".c", atomically: false, encoding: .utf8)
            let compile = """
                PATH=$(dirname "$(readlink -f "$(command -v swift)")"):$PATH
                exec clang -Wall -Werror -shared -fPIC -o "$0.so" "$0.c" -ldl
                """
            try rig.launch(["sh", "-c", compile, path]).wait().get()
            let daemon = try Daemon(rig, setup(), wrapper: ["env", "LD_PRELOAD=\(path).so"])
            try daemon.waitUntilReady()
            return daemon
        }
    }
}
