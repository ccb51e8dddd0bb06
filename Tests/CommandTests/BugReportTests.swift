// shuck bugreport: its archive and its file, without a daemon. EndToEndTests has it beside a running one.

import Foundation
import LinuxIO
import Testing

@testable import shuck

@Suite struct BugReportTests {
    private let configuration = """
        # why: the balancers of row 7
        interfaces: [eth0]
        tunnels:
          - {name: lvs, local: [10.77.0.2], remotes: [10.77.64.0/26], destinations: [{prefix: 100.65.1.9}]}

        """

    // MARK: Parts

    @Test func tarReadsEachSizeOfMember() throws {
        let shell = try Shell()
        var archive = TarArchive(time: 1_700_000_000)
        let sizes = [0, 1, 511, 512, 513, 70_000]
        for size in sizes { try archive.add("d/\(size)", [UInt8](repeating: 0x61, count: size)) }
        #expect(archive.bytes.count % 10_240 == 0)
        try shell.write("a.tar", archive.bytes)
        let list = try shell.script("TZ=UTC tar tvf a.tar && tar xf a.tar")
        #expect(list.code == 0 && list.error == "", "\(list)")
        #expect(list.output.contains("-rw------- 0/0"))
        #expect(list.output.contains("70000 2023-11-14 22:13 d/70000"), "\(list.output)")
        for size in sizes {
            #expect(try shell.read("d/\(size)") == [UInt8](repeating: 0x61, count: size))
        }
    }

    @Test func aNameThatNoHeaderHoldsIsRefused() throws {
        var archive = TarArchive(time: 0)
        let long = String(repeating: "n", count: 101)
        #expect(throws: TarArchive.Refusal.name(long)) { try archive.add(long, []) }
        #expect(throws: TarArchive.Refusal.name("")) { try archive.add("", []) }
        try archive.add(String(repeating: "n", count: 100), [])
    }

    @Test func recordsOfTheKernelsLogAreRead() {
        let record = "6,339,5140900,-;shuck0: link is up\n SUBSYSTEM=net\n"
        #expect(KernelLog.line(record) == "[5.140900] shuck0: link is up")
        #expect(KernelLog.line("6,339;shuck0") == nil)
        #expect(KernelLog.line("") == nil)
    }

    @Test func aMissingProgramIsSaid() {
        guard case .failure(let failure) = HostCommand.output(["shuck-has-no-such", "-j"]) else {
            Issue.record("it ran")
            return
        }
        #expect(failure.message == "shuck-has-no-such is not installed (shuck-has-no-such -j)")
        guard case .success(let bytes) = HostCommand.output(["echo", "one"]) else {
            Issue.record("echo did not run")
            return
        }
        #expect(bytes == Array("one\n".utf8))
    }

    // MARK: The command

    @Test func withoutADaemonTheReportSaysSo() throws {
        let shell = try Shell()
        try shell.write("shuck.yaml", configuration)
        let run = try shell.shuck(
            "bugreport", "--config", "shuck.yaml", "--socket", "none.sock", "-o", "r.tar")
        #expect(run.code == 0 && run.output == "r.tar\n", "\(run)")
        let mode = try shell.script("stat -c %a r.tar; tar xf r.tar; ls")
        #expect(mode.output.hasPrefix("600\n"))
        #expect(!mode.output.contains("partial"))
        let folder = "shuck-bugreport/"
        #expect(try shell.text(folder + "configuration/shuck.yaml") == configuration)
        let summary = try shell.text(folder + "summary.txt")
        #expect(summary.contains("daemon: no answer: no shuck serves none.sock"), "\(summary)")
        #expect(try shell.text(folder + "versions.txt").hasPrefix("shuck   "))
        for name in ["status.json", "metrics-1.txt", "metrics-2.txt", "running.yaml"] {
            #expect(!shell.exists(folder + name))
        }
        let found = try shell.shuck("doctor", "--facts", folder + "facts.json", "--json")
        #expect(found.code == 0 || found.code == 1, "\(found)")
        let check = try shell.shuck("check", "--no-host", "--config", folder + "effective.yaml")
        #expect(check.code == 0, "\(check)")
    }

    @Test func aBadOrMissingConfigurationIsInTheReport() throws {
        let shell = try Shell()
        try shell.write("shuck.yaml", "interfaces: 1\n")
        let bad = try shell.script(
            #""$SHUCK" bugreport --config shuck.yaml --socket none -o - | tar xf -"#)
        #expect(bad.code == 0, "\(bad)")
        #expect(try shell.text("shuck-bugreport/configuration/shuck.yaml") == "interfaces: 1\n")
        #expect(try shell.text("shuck-bugreport/configuration-problems.txt").hasPrefix("shuck.yaml:1:"))
        #expect(try shell.text("shuck-bugreport/summary.txt").contains("every tunnel is assumed"))
        let none = try shell.script(
            #""$SHUCK" bugreport --config none.yaml --socket none -o n.tar && "#
                + "tar xOf n.tar shuck-bugreport/summary.txt")
        #expect(none.output.contains("configuration: none.yaml:1:1: there is no such file"), "\(none)")
    }

    @Test func whatCannotBeWrittenLeavesNothing() throws {
        let shell = try Shell()
        try shell.write("shuck.yaml", configuration)
        let command = #""$SHUCK" bugreport --config shuck.yaml --socket none"#
        let full = try shell.script(command + " -o /dev/full")
        #expect(full.code == 3 && full.error.contains("/dev/full could not be written: No space"), "\(full)")
        #expect(try shell.script("test -c /dev/full").code == 0)
        let pipe = try shell.script("{ \(command) -o -; echo $? >code; } | :; cat code")
        #expect(pipe.output == "3\n" && pipe.error.contains("Broken pipe"), "\(pipe)")
        let folder = try shell.script(command + " -o no-such-folder/r.tar; echo $?; ls -A")
        #expect(folder.output.hasPrefix("3\n") && !folder.output.contains("partial"), "\(folder)")
        #expect(folder.error.contains("no-such-folder/r.tar could not be written"))
        #expect(try shell.shuck("bugreport", "--interval", "601").code == 2)
    }
}
