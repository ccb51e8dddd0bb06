// swift-tools-version: 6.2
// shuck: strips the outer IP header in user space. The house's rooms and who may see whom.
import PackageDescription

let strict: [SwiftSetting] = [.treatAllWarnings(as: .error)]

// Long runs of tools/fuzz, which are no part of an ordinary build. The value is what the code under
// test is compiled for: `none`, `fuzzer` or `fuzzer,address`. Not by --sanitize, which would also
// count the edges of the model, and of two of which the compiler takes the last alone.
let sanitizers = Context.environment["SHUCK_FUZZ"] ?? "none"
let sanitize = sanitizers == "none" ? [] : ["-sanitize=\(sanitizers)"]
let tested = strict + (sanitize.isEmpty ? [] : [.unsafeFlags(sanitize)])
let fuzzing: [Target] =
    Context.environment["SHUCK_FUZZ"] == nil
    ? []
    : [
        .executableTarget(
            name: "model", dependencies: ["Model"], path: "Tests/ModelRun", swiftSettings: strict),
        .executableTarget(
            name: "simulate", dependencies: ["Simulator"], path: "Tests/SimulatorRun", swiftSettings: strict),
        // Links only with the fuzzer.
        .executableTarget(
            name: "fuzz", dependencies: ["FuzzTargets", "Model"], path: "Tests/Fuzz/Driver",
            swiftSettings: strict, linkerSettings: [.unsafeFlags(sanitize + ["-use-ld=lld"])]),
    ]

let package = Package(
    name: "shuck",
    products: [
        .executable(name: "shuck", targets: ["shuck"]),
        // For the nested benchmark package; not an API promise.
        .library(name: "ShuckCore", targets: ["Forwarding", "IP", "Routing"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        .target(
            name: "CLinux",
            cSettings: [.treatAllWarnings(as: .error)],
            linkerSettings: [
                .linkedLibrary("uring"), .linkedLibrary("numa"), .linkedLibrary("mnl"),
                .linkedLibrary("nftables"),
            ]),
        .target(
            name: "CPcap",
            cSettings: [.treatAllWarnings(as: .error)],
            linkerSettings: [.linkedLibrary("pcap")]),
        .target(name: "IP", swiftSettings: tested),
        .target(name: "Routing", dependencies: ["IP"], swiftSettings: tested),
        .target(name: "Forwarding", dependencies: ["IP", "Routing"], swiftSettings: tested),
        // Probes through the encapsulation, as values.
        .target(name: "Probing", dependencies: ["Forwarding", "IP"], swiftSettings: strict),
        .target(name: "LinuxIO", dependencies: ["CLinux", "IP", "Routing"], swiftSettings: tested),
        .target(name: "Captures", dependencies: ["CPcap", "IP"], swiftSettings: tested),
        .target(
            name: "Settings",
            dependencies: [
                "Forwarding", "IP", "Probing", "Routing", .product(name: "Yams", package: "Yams"),
            ],
            swiftSettings: tested),
        // The tests of `shuck selftest`, as values.
        .target(
            name: "SelfTesting", dependencies: ["Forwarding", "IP", "Settings"], swiftSettings: strict),
        .target(
            name: "HostPlan", dependencies: ["Forwarding", "IP", "Routing", "Settings"],
            swiftSettings: strict),
        .target(
            name: "Daemon",
            dependencies: [
                "Forwarding", "HostPlan", "IP", "Routing", "LinuxIO", "Settings",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "shuck",
            dependencies: [
                "Daemon", "Captures", "Forwarding", "HostPlan", "IP", "LinuxIO", "Probing", "Routing",
                "SelfTesting", "Settings",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),
        // One worker over frames that wait: what tools/bench counts instructions of.
        .executableTarget(
            name: "worker-bench", dependencies: ["Daemon"], path: "Benchmarks/Worker",
            swiftSettings: strict),
        // Packets byte by byte, which share nothing with the code under test.
        .target(
            name: "TestPackets", dependencies: ["IP"], path: "Tests/TestPackets", swiftSettings: strict),
        .testTarget(name: "IPTests", dependencies: ["IP", "TestPackets"], swiftSettings: strict),
        .testTarget(
            name: "RoutingTests", dependencies: ["IP", "Routing", "TestPackets"], swiftSettings: strict),
        .testTarget(
            name: "ForwardingTests", dependencies: ["Forwarding", "IP", "SlowJudge", "TestPackets"],
            swiftSettings: strict),
        .target(
            name: "SlowJudge", dependencies: ["Forwarding"], path: "Tests/SlowJudge", swiftSettings: strict),
        // What each packet must get as slow code, and random frames that it and shuck are both put to.
        .target(
            name: "Model", dependencies: ["Forwarding", "IP", "Routing", "SlowJudge"], path: "Tests/Model",
            swiftSettings: strict),
        // A simulated host around the real batch; RingTurns.swift in it is the worker's own file.
        .target(
            name: "Simulator", dependencies: ["Forwarding", "IP", "Model", "Routing", "TestPackets"],
            path: "Tests/Simulator", swiftSettings: strict),
        .testTarget(
            name: "SimulatorTests", dependencies: ["Simulator", "TestPackets"], swiftSettings: strict),
        .testTarget(name: "ModelTests", dependencies: ["Model", "TestPackets"], swiftSettings: strict),
        .target(
            name: "FuzzTargets",
            dependencies: [
                "Captures", "Forwarding", "IP", "LinuxIO", "Model", "Routing", "Settings", "SlowJudge",
            ],
            path: "Tests/Fuzz/Targets", swiftSettings: strict),
        .testTarget(
            name: "ProbingTests", dependencies: ["Forwarding", "IP", "Probing", "TestPackets"],
            swiftSettings: strict),
        .testTarget(
            name: "SelfTestingTests", dependencies: ["Forwarding", "IP", "SelfTesting", "Settings"],
            swiftSettings: strict),
        .testTarget(name: "FuzzTests", dependencies: ["FuzzTargets"], swiftSettings: strict),
        .testTarget(
            name: "SettingsTests", dependencies: ["IP", "Probing", "Settings"], swiftSettings: strict),
        .testTarget(name: "HostPlanTests", dependencies: ["HostPlan", "IP"], swiftSettings: strict),
        .testTarget(
            name: "DaemonTests",
            dependencies: ["Daemon", "Forwarding", "HostPlan", "LinuxIO", "Routing", "Settings"],
            swiftSettings: strict),
        .testTarget(
            name: "LinuxIOTests",
            dependencies: [
                "LinuxIO", "Forwarding", "HostPlan", "Daemon", "IP", "Routing", "SlowJudge", "TestPackets",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "CommandTests", dependencies: ["shuck", "CPcap", "Forwarding", "TestPackets"],
            swiftSettings: strict),
        .testTarget(
            name: "EndToEndTests", dependencies: ["LinuxIO", "Settings", "TestPackets"],
            swiftSettings: strict),
    ] + fuzzing
)
