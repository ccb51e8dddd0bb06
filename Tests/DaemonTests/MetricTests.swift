// /metrics from values, and the table of metrics against docs/counters.md.
// `SHUCK_WRITE=1 swift test --filter MetricTests` writes the table.

import Foundation
import Settings
import Testing

@testable import Daemon

@Suite struct MetricTests {
    @Test func thePageHasEachSeriesUnderItsHelp() throws {
        let page = Views.scrape(Views.forwarding(try #require(Views.configuration()))).text
        for part in [
            """
            # HELP shuck_received_packets_total Frames taken from the rings.
            # TYPE shuck_received_packets_total counter
            shuck_received_packets_total{worker="0"} 30

            """,
            """
            # TYPE shuck_injected_packets_total counter
            shuck_injected_packets_total{worker="0",tunnel="lvs",mode="ipip",device="shuck0"} 9
            shuck_injected_packets_total{worker="0",tunnel="lvs",mode="native",device="shuck0"} 1

            """,
            """
            shuck_dropped_packets_total{worker="0",tunnel="",reason="pkt_too_small"} 2
            shuck_dropped_packets_total{worker="0",tunnel="lvs",reason="ip_rpfilter"} 3

            """,
            "shuck_injected_bytes_total{worker=\"0\",tunnel=\"lvs\",mode=\"ipip\",device=\"shuck0\"} 900\n",
            "shuck_replied_packets_total{worker=\"0\",reason=\"pkt_too_big\"} 2\n",
            "shuck_ecn_cells_total{inner=\"ect0\",outer=\"ce\"} 8\n",
            """
            shuck_destination_packets_total{tunnel="lvs",destination="10.2.1.9/32",protocol="6",\
            ports="80,8000-8010"} 10

            """,
            "shuck_claim{interface=\"eth0\",asked=\"auto\",active=\"tcx\"} 1\n",
            "shuck_device_up{device=\"shuck0\"} 1\n", "shuck_interface_up{interface=\"eth0\"} 1\n",
            "shuck_ready 1\n", "shuck_degraded{what=\"log\"} 0\n", "shuck_routes{family=\"ipv6\"} 4\n",
            "shuck_routes_resyncs_total{reason=\"links\"} 2\n", "shuck_routes_changes_total 9\n",
            "shuck_rules 3\n", "shuck_ring_dropped_packets_total{worker=\"0\"} 6\n",
            "shuck_worker_busy_seconds_total{worker=\"0\"} 1.5\n",
            "shuck_worker_last_progress_timestamp_seconds{worker=\"0\"} 1700000060\n",
            "process_cpu_seconds_total 2.25\n", "process_open_fds 40\n",
            "shuck_config_last_reload_successful 1\n",
        ] {
            #expect(page.contains(part), "\(part)\n\(page)")
        }
        // What counted nothing and has a tunnel, device or reason is left out.
        #expect(!page.contains("ip6ip6") && !page.contains("frag_overlap\"} 0\nshuck_dropped"))
    }

    @Test func receivedIsTheSumOfAllVerdicts() throws {
        let totals = Views.counts(try #require(Views.configuration())).totals
        #expect(
            totals.sum(.received)
                == totals.sum(.injected) + totals.sum(.passed) + totals.sum(.held) + totals.sum(.dropped)
                + totals.sum(.replied))
    }

    @Test func sumsGoOnWhenATunnelGoes() throws {
        let old = try #require(Views.configuration())
        var counts = Views.counts(old)
        var renamed = old
        renamed.tunnels[0].name = "other"
        for (series, value) in Views.counts(renamed).totals { counts.totals[series, default: 0] += value }
        #expect(counts.totals.sum(.injected) == 20)
        let page = Scrape(view: Views.forwarding(renamed), counts: counts, usage: (0, 0, 0)).text
        for name in ["lvs", "other"] {
            #expect(page.contains("tunnel=\"\(name)\",reason=\"ip_rpfilter\"} 3\n"))
        }
    }

    @Test func valuesOfLabelsAreEscaped() throws {
        var configuration = try #require(Views.configuration())
        configuration.tunnels[0].name = "a\"b\\c"
        let page = Views.scrape(Views.forwarding(configuration)).text
        #expect(page.contains("tunnel=\"a\\\"b\\\\c\",reason=\"ip_rpfilter\"} 3\n"))
    }

    @Test func namesAreThoseOfPrometheus() {
        #expect(Set(Metric.all.map(\.name)).count == Metric.all.count)
        for metric in Metric.all {
            let names = metric.labels + [metric.name]
            #expect(names.allSatisfy { $0.wholeMatch(of: /[a-z_]+/) != nil }, "\(metric.name)")
            #expect(metric.help.hasSuffix(".") && !metric.help.contains("\n"), "\(metric.name)")
        }
    }

    @Test func theTableOfMetricsIsThatOfTheReference() throws {
        let file = URL(filePath: #filePath).appending(path: "../../../docs/counters.md").standardized
        let text = try String(contentsOf: file, encoding: .utf8)
        let rows = Metric.all.map { metric in
            let labels = metric.labels.isEmpty ? "" : "{\(metric.labels.joined(separator: ","))}"
            return
                "| `\(metric.name)\(labels)` | \(metric.isCounter ? "counter" : "gauge") | \(metric.help) |\n"
        }
        let (start, end) = ("<!-- metrics -->\n", "<!-- end of metrics -->")
        let first = try #require(text.range(of: start)).upperBound
        let last = try #require(text.range(of: end)).lowerBound
        let table = "| metric | type | what it says |\n| --- | --- | --- |\n" + rows.joined()
        if ProcessInfo.processInfo.environment["SHUCK_WRITE"] != nil {
            try (text[..<first] + table + text[last...]).write(to: file, atomically: true, encoding: .utf8)
        } else {
            #expect(text[first..<last] == table, "SHUCK_WRITE=1 swift test --filter MetricTests writes it")
        }
    }
}
