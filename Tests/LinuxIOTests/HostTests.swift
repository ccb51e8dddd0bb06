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

    @Test func aCPUThatIsNotThereIsAnError() {
        #expect { try Placement.pinSelf(to: 1000) } throws: { error in
            "\(error)".contains("CPU 1000")
        }
    }

    @Test func aVirtualInterfaceHasNoNode() {
        #expect(Placement.node(ofInterface: "lo") == nil)
        #expect(Placement.node(ofInterface: "there is none") == nil)
        #expect(Placement.cpus(nearInterface: "lo") == Placement.allowedCPUs())
        let nodes = Placement.allowedCPUs().map { Placement.node(ofCPU: $0) }
        #expect(nodes.allSatisfy { $0 == nil || $0! >= 0 })
    }

    @Test func memoryIsAskedForOnANode() throws {
        struct Wrong: Error {}
        #expect(Placement.withMemory(onNodeOf: Placement.allowedCPUs()[0]) { 7 } == 7)
        #expect(throws: Wrong.self) {
            try Placement.withMemory(onNodeOf: 0) { () throws(Wrong) in throw Wrong() }
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
        let error = SystemError("ioctl(TUNSETIFF)", "shuck0", errno: EPERM, mend: "run as root")
        #expect("\(error)" == "ioctl(TUNSETIFF) on shuck0: Operation not permitted; run as root")
        #expect(error.isPermission)
        #expect("\(SystemError("bind", "near", errno: ENODEV))" == "bind on near: No such device")
        #expect(throws: SystemError.self) { try check("call", "it") { -1 } }
        #expect(throws: SystemError.self) { try checkNegative("call", "it", -ENOENT) }
        #expect(throws: Never.self) { try checkNegative("call", "it", 7) }
    }
}
