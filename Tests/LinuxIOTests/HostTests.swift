// Threads and the CPUs they run on, wake-ups, settings of the kernel, and how errors read.

import CLinux
import Glibc
import Synchronization
import Testing

@testable import LinuxIO

@Suite struct HostTests {
    @Test func aPinnedThreadHasOneCPU() throws {
        let allowed = Placement.allowedCPUs()
        #expect(!allowed.isEmpty && allowed == allowed.sorted())
        for cpu in allowed {
            let seen = Mutex<[Int]>([])
            let thread = try WorkerThread(name: "pinned-\(cpu)") {
                try? Placement.pinSelf(to: cpu)
                let cpus = Placement.allowedCPUs()
                seen.withLock { $0 = cpus }
            }
            thread.join()
            #expect(seen.withLock { $0 } == [cpu])
        }
        // The pinning was the threads' own.
        #expect(Placement.allowedCPUs() == allowed)
    }

    @Test func aSettingIsThereOrNot() {
        #expect(Host.hasSysctl("net.ipv4.ip_forward"))
        #expect(!Host.hasSysctl("net.ipv4.no_such_setting"))
        #expect(Host.sysctl("net.ipv4.no_such_setting") == nil)
    }

    @Test func aCPUThatIsNotThereIsAnError() {
        #expect { try Placement.pinSelf(to: 1000) } throws: { error in
            "\(error)".contains("CPU 1000")
        }
    }

    /// A call that needs a capability can also fail for want of descriptors or of a driver.
    @Test(arguments: [
        (EMFILE, "LimitNOFILE"), (ENFILE, "fs.file-max"), (EPERM, "CAP_NET_RAW"),
        (EACCES, "CAP_NET_RAW"), (EAFNOSUPPORT, "modprobe"),
    ])
    func theRemedyFitsTheError(number: Int32, remedy: String) {
        do throws(SystemError) {
            try check("socket", "eth0", hint: "modprobe it", grant: "grant CAP_NET_RAW") {
                errno = number
                return -1
            }
            Issue.record("it failed")
        } catch {
            #expect(error.errno == number)
            #expect(error.hint?.contains(remedy) == true, "\(error)")
            #expect(error.hint?.contains("CAP_") == (remedy == "CAP_NET_RAW"))
        }
    }

    @Test func everyAllowedCPUIsOnOneNode() {
        let nodes = Placement.nodes
        for cpu in Placement.allowedCPUs() where !nodes.isEmpty {
            #expect(nodes.values.filter { $0.contains(cpu) }.count == 1)
            #expect(Placement.node(ofCPU: cpu) != nil)
        }
    }

    @Test func theLibraryAndSysfsAgreeOnNodes() {
        #expect(Placement.nodes == Placement.nodesOfSysfs())
    }

    @Test(.enabled(if: get_mempolicy(nil, nil, 0, nil, 0) == 0, "get_mempolicy is refused here"))
    func memoryPrefersANodeForAWhile() throws {
        let node = try #require(Placement.nodes.keys.first)
        let before = try #require(MemoryPolicy.ofThisThread())
        let preferred = MemoryPolicy(preferring: node)
        #expect(preferred.adopt())
        #expect(MemoryPolicy.ofThisThread() == preferred)
        #expect(before.adopt())
        #expect(MemoryPolicy.ofThisThread() == before)
    }

    @Test func theAffinityIsAsBeforeWhereMemoryWasMadeNearACPU() throws {
        struct Wrong: Error {}
        let allowed = Placement.allowedCPUs()
        #expect(Placement.withMemory(onNodeOf: allowed[0]) { 7 } == 7)
        #expect(throws: Wrong.self) {
            try Placement.withMemory(onNodeOf: allowed[0]) { () throws(Wrong) in throw Wrong() }
        }
        #expect(Placement.allowedCPUs() == allowed)
        #expect(Placement.withMemory(onNodeOf: 1000) { 7 } == 7)
    }

    @Test func namedMemoryIsThereAtOnceAndInAlignedPieces() throws {
        let bytes = NamedMemory.bytes(for: UInt8.self, 5000) + NamedMemory.bytes(for: UInt64.self, 3)
        let memory = try NamedMemory(
            name: "shuck-test", byteCount: bytes, cpu: Placement.allowedCPUs()[0])
        let first = memory.take(UInt8.self, 5000)
        let second = memory.take(UInt64.self, 3)
        #expect(UInt(bitPattern: first) == memory.start)
        #expect(UInt(bitPattern: second) % 128 == 0 && UInt(bitPattern: second) >= memory.start + 5000)
        #expect((0..<5000).allSatisfy { first[$0] == 0 } && second[2] == 0)
        let maps = Host.read("/proc/self/maps") ?? ""
        #expect(maps.contains("/memfd:shuck-test"))
        let pages = Placement.pagesByNode(ofMappings: [memory.start, 4096])
        #expect(pages[4096] == nil)
        // A kernel without NUMA has no numa_maps.
        if let nodes = pages[memory.start] {
            #expect(nodes.values.reduce(0, +) == memory.byteCount / Int(getpagesize()))
        }
    }

    @Test func aThreadHasItsNameAndItsTime() throws {
        let name = Mutex("")
        let goOn = try Wakeup()
        let ready = try Wakeup()
        let thread = try WorkerThread(name: "shuck-worker-7") {
            let own = Host.read("/proc/thread-self/comm") ?? ""
            name.withLock { $0 = own }
            var sum = 0
            for number in 0..<200_000 { sum &+= number &* number }
            ready.signal()
            _ = Host.waitReadable([goOn.descriptor.number], milliseconds: sum == 1 ? 0 : 10_000)
        }
        #expect(Host.waitReadable([ready.descriptor.number], milliseconds: 10_000) == [true])
        #expect(thread.cpuNanoseconds() > 0)
        goOn.signal()
        thread.join()
        #expect(name.withLock { $0 } == "shuck-worker-7")
    }

    @Test func aWakeupIsCleared() throws {
        let wakeup = try Wakeup()
        let other = try Wakeup()
        let descriptors = [wakeup.descriptor.number, other.descriptor.number]
        #expect(Host.waitReadable(descriptors, milliseconds: 0) == [false, false])
        wakeup.signal()
        wakeup.signal()
        #expect(Host.waitReadable(descriptors, milliseconds: 0) == [true, false])
        wakeup.clear()
        #expect(Host.waitReadable(descriptors, milliseconds: 0) == [false, false])
    }

    @Test func settingsAreRead() {
        #expect(Host.sysctl("kernel.ostype") == "Linux")
        #expect(Host.sysctl("kernel.there.is.none") == nil)
        #expect(Host.read("/nowhere") == nil)
        let usage = Host.processUsage()
        #expect(usage.residentBytes > 1 << 20 && usage.cpuSeconds > 0 && usage.descriptors >= 3)
        let before = Host.monotonicNanoseconds()
        #expect(Host.monotonicNanoseconds() >= before)
    }

    @Test func anErrorSaysWhatWhereWhyAndHow() {
        let error = SystemError("ioctl(TUNSETIFF)", "shuck0", errno: EPERM, hint: "run as root")
        #expect("\(error)" == "ioctl(TUNSETIFF) on shuck0: Operation not permitted; run as root")
        #expect(error.isPermission)
        #expect("\(SystemError("bind", "near", errno: ENODEV))" == "bind on near: No such device")
        #expect(throws: SystemError.self) { try check("call", "it") { -1 } }
        #expect(throws: SystemError.self) { try checkNegative("call", "it", -ENOENT) }
        #expect(throws: Never.self) { try checkNegative("call", "it", 7) }
    }

    /// EINTR is no failure of a call.
    @Test func aCallThatASignalEndedIsMadeAgain() throws {
        var calls = 0
        let result = try check("call", "it") {
            calls += 1
            errno = EINTR
            return calls < 3 ? -1 : 7
        }
        #expect(result == 7 && calls == 3)
    }

    @Test func theClockIsThatOfTheHost() {
        let before = Double(time(nil))
        let now = (0..<20).map { _ in
            usleep(1000)
            return Host.unixSeconds()
        }
        #expect(now[0] >= before && now[19] < before + 60)
        // Whole seconds alone would stand still or leap.
        #expect(zip(now, now.dropFirst()).allSatisfy { $0 < $1 && $1 < $0 + 30 })
    }

    /// sun_path has room for 107 bytes and a NUL; a name in the abstract namespace has a NUL before it.
    @Test func aSocketsNameMayBeAsLongAsTheKernelTakes() throws {
        let directory = "/tmp/shuck-\(getpid())-"
        let path = directory + String(repeating: "p", count: 107 - directory.utf8.count)
        let name = "shuck-test-\(getpid())-" + String(repeating: "n", count: 80)
        let abstract = name + String(repeating: "a", count: 107 - name.utf8.count)
        defer { unlink(path) }
        for isPath in [true, false] {
            let text = isPath ? path : abstract
            let listening = Descriptor(
                socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0))
            let number = listening.number
            let result =
                isPath
                ? UnixAddress(path: text).with { bind(number, $0, $1) }
                : UnixAddress(abstract: text).with { bind(number, $0, $1) }
            try #require(result == 0 && listen(number, 1) == 0)
            let found = isPath ? UnixAddress(path: text).listener : UnixAddress(abstract: text).listener
            #expect(found == .peer(UnixAddress.Peer(processID: getpid(), user: geteuid())))
            // A longer one is cut off.
            let other = (isPath ? "/tmp/" : "") + String(repeating: "z", count: 200)
            #expect(UnixAddress(path: other).listener == .none)
            #expect(UnixAddress(abstract: other).listener == .none)
            let whole = MemoryLayout<sockaddr_un>.size
            #expect(UnixAddress(path: other).with { Int($1) } == whole)
            #expect(UnixAddress(abstract: other).with { Int($1) } == whole)
            // As somebody else writes it down: the kernel's own list of them.
            let listed = Host.read("/proc/net/unix")?.split(separator: "\n") ?? []
            #expect(listed.contains { $0.hasSuffix(isPath ? " " + text : " @" + text) })
            withExtendedLifetime(listening) {}
        }
    }
}
