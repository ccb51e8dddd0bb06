// libFuzzer over the targets: the first argument names one, the rest is libFuzzer's own.
//   fuzz TARGET [-OPTION…] [DIRECTORY…]    fuzz TARGET --seeds DIRECTORY

import FuzzTargets
import Glibc
import Model

typealias Arguments = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

@_silgen_name("LLVMFuzzerRunDriver")
func runDriver(
    _ count: UnsafeMutablePointer<Int32>, _ arguments: UnsafeMutablePointer<Arguments>,
    _ test: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

@_silgen_name("LLVMFuzzerMutate")
func mutateAnyhow(_ data: UnsafeMutablePointer<UInt8>, _ size: Int, _ sizeMax: Int) -> Int

/// One thread runs everything.
nonisolated(unsafe) private var target: (any FuzzTarget)?

private func complain(_ text: String) {
    let line = "fuzz: \(text)\n"
    write(STDERR_FILENO, line, line.utf8.count)
}

private func testOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
    do {
        try target!.run(UnsafeRawBufferPointer(start: data, count: size))
    } catch {
        // The signal by which libFuzzer keeps the input.
        complain("\(error)")
        abort()
    }
    return 0
}

@_cdecl("LLVMFuzzerCustomMutator")
func customMutator(
    _ data: UnsafeMutablePointer<UInt8>, _ size: Int, _ sizeMax: Int, _ seed: UInt32
) -> Int {
    var random = Random(UInt64(seed))
    let input = Array(UnsafeBufferPointer(start: data, count: size))
    guard random.below(3) != 0, let changed = target!.mutate(input, &random),
        changed.count <= sizeMax
    else { return mutateAnyhow(data, size, sizeMax) }
    memcpy(data, changed, changed.count)
    return changed.count
}

private func writeSeeds(of target: any FuzzTarget, to directory: String) {
    var number = 0
    while let seed = target.seed(number) {
        let name = number < 10 ? "seed-0\(number)" : "seed-\(number)"
        guard let file = fopen("\(directory)/\(name)", "we") else {
            complain("\(directory)/\(name) cannot be written: \(String(cString: strerror(errno)))")
            exit(2)
        }
        fwrite(seed, 1, seed.count, file)
        fclose(file)
        number += 1
    }
    print("fuzz: \(number) seeds")
}

private func start() -> Int32 {
    let given = CommandLine.unsafeArgv
    let words = CommandLine.arguments
    guard words.count >= 2, let type = FuzzTargets.all[words[1]] else {
        print("fuzz: name a target: \(FuzzTargets.all.keys.sorted().joined(separator: ", "))")
        return 2
    }
    let made = type.init()
    target = made
    if words.count == 4, words[2] == "--seeds" {
        writeSeeds(of: made, to: words[3])
        return 0
    }
    // libFuzzer shall not take the name for a file.
    var count = Int32(words.count - 1)
    var rest: Arguments = .allocate(capacity: words.count)
    rest[0] = given[0]
    for index in 2...words.count { rest[index - 1] = given[index] }
    return runDriver(&count, &rest, testOneInput)
}

exit(start())
