// What doctor judges: every condition, and what each says of a host.

public enum Doctor {
    /// In the order in which a packet meets what they judge.
    public static let conditions: [Condition] =
        Condition.interfaces + Condition.entrance + Condition.sizes + Condition.kernelTunnels
        + Condition.devices + Condition.reversePaths + Condition.forwarding + Condition.filters
        + Condition.rules + Condition.pods
        + Condition.engine

    public static func diagnoses(_ examination: Examination) -> [Diagnosis] {
        conditions.flatMap { $0.diagnoses(examination) }
    }
}
