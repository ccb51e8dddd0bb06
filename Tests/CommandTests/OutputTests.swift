// What verbs do when their words cannot be written: full disks, readers that are gone, closed streams.

import Foundation
import Testing

@Suite struct OutputTests {
    private let configuration = """
        interfaces: [nothere0]
        tunnels: [{name: lvs, local: [192.0.2.2], remotes: [192.0.2.64/26],
                   destinations: [{prefix: 10.2.1.9}]}]
        outer: {fragments: {memory: 0}}

        """

    private func shell() throws -> Shell {
        let shell = try Shell()
        try shell.write("c.yaml", configuration)
        try shell.write(
            "in.pcap", CaptureText.pcap([Record(bytes: Sample.outer4(Sample.inner4))], link: 101))
        return shell
    }

    @Test(arguments: [
        "--help", "--version", "check --help", "check --config c.yaml",
        "check --config c.yaml --json",
        "replay --config c.yaml --interface nothere0 --in in.pcap --out -",
        "replay --config c.yaml --in in.pcap --out o.pcap --verdicts -",
    ])
    func aFullDiskIsOne(_ arguments: String) throws {
        let outcome = try shell().script("\"$SHUCK\" \(arguments) >/dev/full")
        #expect(outcome.code == 1)
        #expect(outcome.error.contains("could not be written"), "\(outcome.error)")
        #expect(outcome.error.contains("No space left on device"), "\(outcome.error)")
    }

    @Test(arguments: ["--out", "--verdicts", "--replies"])
    func replayNeverHidesLostOutput(_ option: String) throws {
        let shell = try shell()
        let out = option == "--out" ? "" : "--out o.pcap"
        let outcome = try shell.script(
            "\"$SHUCK\" replay --config c.yaml --in in.pcap \(out) \(option) /dev/full")
        #expect(outcome.code == 1)
        #expect(
            outcome.error.contains(
                "/dev/full could not be written to its end: No space left on device"),
            "\(outcome.error)")
    }

    /// Warnings that nobody can read change neither the outcome nor the answer.
    @Test(arguments: ["2>/dev/full", "2>&-", "2>&1 >o.txt | :"])
    func standardErrorChangesNothing(_ redirection: String) throws {
        let shell = try shell()
        let isPiped = redirection.hasSuffix(":")
        // The reader has gone before anything is written.
        let command =
            isPiped
            ? "{ sleep 0.2; \"$SHUCK\" check --config c.yaml 2>&1 >o.txt; echo $? >code; } | :"
            : "\"$SHUCK\" check --config c.yaml >o.txt \(redirection); echo $? >code"
        _ = try shell.script(command)
        #expect(try shell.text("code") == "0\n")
        let whole = try shell.shuck("check", "--config", "c.yaml")
        #expect(whole.error.contains("this host has no \"nothere0\""))
        #expect(try shell.text("o.txt") == whole.output)
    }

    @Test(arguments: [
        "--help", "check --config c.yaml",
        "replay --config c.yaml --in in.pcap --out -",
        "replay --config c.yaml --in in.pcap --out o.pcap --verdicts -",
    ])
    func aReaderThatIsGoneEndsItQuietly(_ arguments: String) throws {
        let shell = try shell()
        // Also where SIGPIPE is ignored, as service managers have it.
        for trap in ["", "trap '' PIPE; "] {
            _ = try shell.script(
                "\(trap){ sleep 0.2; \"$SHUCK\" \(arguments) 2>error.txt; echo $? >code; } | :")
            #expect(try shell.text("code") == "141\n")
            let error = try shell.text("error.txt")
            #expect(!error.contains("could not be written"), "\(error)")
        }
    }

    @Test func aClosedStandardOutputIsOne() throws {
        let outcome = try shell().script("\"$SHUCK\" check --config c.yaml >&-")
        #expect(outcome.code == 1)
        #expect(
            outcome.error.contains("standard output could not be written: Bad file descriptor"),
            "\(outcome.error)")
    }
}
