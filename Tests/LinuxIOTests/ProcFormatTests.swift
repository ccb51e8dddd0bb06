// What the kernel writes about CPUs, interrupts and nodes.

import Routing
import Testing

@testable import LinuxIO

@Suite struct ProcFormatTests {
    // MARK: texts as kernels write them

    @Test(arguments: [
        ("0", [0]), ("0-3", [0, 1, 2, 3]), ("0-1,8,10-11\n", [0, 1, 8, 10, 11]), ("", []), ("\n", []),
    ])
    func aListOfCPUs(text: String, numbers: [Int]) {
        #expect(NumberList.parse(text) == numbers)
    }

    @Test(arguments: ["a", "1-", "-1", "1,,2", "3-1", "1-2-3", "0-99999999999", "f,ff"])
    func noListOfCPUs(text: String) {
        #expect(NumberList.parse(text) == nil)
    }

    @Test func listsAreWrittenAsTheKernelDoes() {
        #expect(NumberList.text([]) == "")
        #expect(NumberList.text([3]) == "3")
        #expect(NumberList.text([11, 0, 1, 2, 8, 10, 8]) == "0-2,8,10-11")
        for text in ["0-3", "1,3,5", "0,2-4"] {
            #expect(NumberList.text(NumberList.parse(text)!) == text)
        }
    }

    /// Linux 6.1 on x86-64 in the emulated machine, and lines of a server with an Intel and a
    /// Mellanox NIC.
    @Test func interruptsOfX86() {
        let text = """
                       CPU0       CPU1       CPU2       CPU3
              0:        126          0          0          0   IO-APIC   2-edge      timer
              4:          0        371          0          0   IO-APIC   4-edge      ttyS0
             16:          0          0          7          1   IO-APIC  16-fasteoi   ehci_hcd:usb1, eth2
             26:          0          0          0          0  PCI-MSIX-0000:41:00.0   0-edge      \
            virtio2-config
             27:          5          0          0       4095  PCI-MSIX-0000:41:00.0   1-edge      \
            virtio2-input.0
            146:          0 4294967296          0          1  IR-PCI-MSI 33556487-edge      eth0-TxRx-6
            147:          9          0          0          0  IR-PCI-MSI 70254592-edge      \
            mlx5_async0@pci:0000:86:00.0
            NMI:          0          0          0          0   Non-maskable interrupts
            ERR:          0

            """
        let found = InterruptCount.parse(text, of: [16, 26, 27, 146, 147, 999])
        #expect(
            found == [
                16: InterruptCount(count: 8, name: "ehci_hcd:usb1, eth2"),
                26: InterruptCount(count: 0, name: "virtio2-config"),
                27: InterruptCount(count: 4100, name: "virtio2-input.0"),
                146: InterruptCount(count: 4_294_967_297, name: "eth0-TxRx-6"),
                147: InterruptCount(count: 9, name: "mlx5_async0@pci:0000:86:00.0"),
            ])
    }

    @Test func interruptsOfARM() {
        let text = """
                       CPU0       CPU1
             11:   11052134   10984437     GICv3  27 Level     arch_timer
             52:          3     902211   ITS-MSI 524289 Edge      eth0-rx-1

            """
        let found = InterruptCount.parse(text, of: [52])
        #expect(found == [52: InterruptCount(count: 902_214, name: "eth0-rx-1")])
    }

    @Test(arguments: ["", "\n", "CPU0\n", "CPU0\n 1", "CPU0\n 1:", "x\n : 1 2 3\n"])
    func noInterrupts(text: String) {
        let found = InterruptCount.parse(text, of: [1])
        #expect(found.isEmpty || found == [1: InterruptCount(count: 0, name: "")])
    }

    @Test func pagesByNode() {
        let text = """
            55d0c5a00000 default file=/bin/shuck mapped=3 mapmax=2 active=0 N0=3 kernelpagesize_kB=4
            7f1a2c000000 default anon=33 dirty=33 active=0 N1=33 kernelpagesize_kB=4
            7f1a3b800000 default file=socket:[8723] dirty=4096 active=0 N0=96 N1=4000 kernelpagesize_kB=4
            7f1a3d000000 default file=/memfd:shuck-worker-0\\040(deleted) dirty=150 \
            active=0 N1=150 kernelpagesize_kB=4
            7f1a3e000000 prefer:1 heap

            """
        let found = NumaMaps.parse(
            text, of: [0x7f1a_3b80_0000, 0x7f1a_3d00_0000, 0x7f1a_3e00_0000, 0x1000])
        #expect(
            found == [
                0x7f1a_3b80_0000: [0: 96, 1: 4000], 0x7f1a_3d00_0000: [1: 150], 0x7f1a_3e00_0000: [:],
            ])
    }
}
