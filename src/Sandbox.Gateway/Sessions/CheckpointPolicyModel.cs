using Sandbox.Abstractions;

namespace Sandbox.Gateway.Sessions;

/// <summary>When checkpoints are taken by themselves: in a create call, and as a session shows it.</summary>
internal sealed record CheckpointPolicyModel
{
    public bool OnIdle { get; init; }

    public TimeSpan? EverySeconds { get; init; }

    public bool AfterEachExecution { get; init; }

    public static CheckpointPolicyModel From(CheckpointPolicy policy) => new() { OnIdle = policy.OnIdle, EverySeconds = policy.Every, AfterEachExecution = policy.AfterEachExecution };

    public CheckpointPolicy ToPolicy() => new() { OnIdle = OnIdle, Every = EverySeconds, AfterEachExecution = AfterEachExecution };
}
