// swift-tools-version: 6.2
// Function benchmarks of the pure core, apart from the root package so that this stays quick to build.
//   swift package --package-path Benchmarks benchmark
import PackageDescription

let package = Package(
    name: "shuck-benchmarks",
    platforms: [.macOS(.v14)],
    dependencies: [
        .package(name: "shuck", path: ".."),
        // Without its traits it needs no malloc interposer.
        .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: []),
    ],
    targets: [
        .executableTarget(
            name: "Core",
            dependencies: [
                .product(name: "ShuckCore", package: "shuck"),
                .product(name: "Benchmark", package: "benchmark"),
            ],
            path: "Benchmarks/Core",
            plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]),
        // swift run --package-path Benchmarks -c release routes-bench
        .target(name: "CRoutes", path: "CRoutes"),
        .executableTarget(
            name: "routes-bench",
            dependencies: ["CRoutes", .product(name: "ShuckCore", package: "shuck")],
            path: "Routes", swiftSettings: [.swiftLanguageMode(.v5)]),
    ]
)
