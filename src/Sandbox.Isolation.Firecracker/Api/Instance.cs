namespace Sandbox.Isolation.Firecracker.Api;

/// <summary>What a process says of itself.</summary>
internal sealed record InstanceInfo(string? AppName, string? Id, string? State, string? VmmVersion);

/// <summary>The state a machine is asked to be in: <c>Paused</c> or <c>Resumed</c>.</summary>
internal sealed record VmState(string State);

/// <summary>Something done at once, for example <c>InstanceStart</c>.</summary>
internal sealed record InstanceAction(string ActionType);

/// <summary>Why a request was refused.</summary>
internal sealed record Fault(string? FaultMessage);
