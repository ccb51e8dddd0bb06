// The search for the largest packet that passes, with and without ICMP errors, at every size.

import Testing

@testable import Probing

@Suite struct PathMTUSearchTests {
    /// Runs it against a path.
    /// - Parameter tells: whether the path tells its MTU.
    private static func search(mtu: Int, largest: Int = 1480, tells: Bool) -> (found: Int, asked: Int) {
        var search = PathMTUSearch(passing: 44, largest: largest)
        var asked = 0
        while let size = search.size {
            asked += 1
            if size <= mtu { search.pass(size) } else { search.fail(size, told: tells ? mtu : nil) }
        }
        return (search.passing, asked)
    }

    @Test(arguments: [true, false])
    func everySizeIsFound(tells: Bool) {
        for mtu in 44...1480 {
            let (found, asked) = Self.search(mtu: mtu, tells: tells)
            #expect(found == mtu)
            #expect(asked <= (tells ? 3 : 12))
        }
        #expect(Self.search(mtu: 9000, tells: false) == (1480, 1))
    }

    /// What an error tells is checked, not believed.
    @Test(arguments: [0, 68, 1000, 1300, 1479, 1480, 65_535])
    func wrongErrorsMisleadNobody(told: Int) {
        var search = PathMTUSearch(passing: 44, largest: 1480)
        var asked = 0
        while let size = search.size {
            asked += 1
            if size <= 1234 { search.pass(size) } else { search.fail(size, told: told) }
        }
        #expect(search.passing == 1234)
        #expect(asked < 100)
    }

    @Test func nothingIsAskedOfALinkThatCarriesNoMore() {
        #expect(PathMTUSearch(passing: 44, largest: 44).size == nil)
        #expect(PathMTUSearch(passing: 44, largest: 20).size == nil)
    }
}
