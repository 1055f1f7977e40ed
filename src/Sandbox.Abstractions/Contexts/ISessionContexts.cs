using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>The contexts of a session: interpreters whose variables persist between executions. Key: session id.</summary>
[Alias("sandbox.ISessionContexts")]
public interface ISessionContexts : IGrainWithStringKey
{
    /// <summary>Makes a context.</summary>
    [Alias("create"), AlwaysInterleave]
    Task<ContextInfo> CreateContextAsync(CreateContextRequest request);

    /// <summary>All contexts of the session.</summary>
    [Alias("list"), AlwaysInterleave]
    Task<IReadOnlyList<ContextInfo>> ListContextsAsync();

    /// <summary>Ends the interpreter and starts a fresh one under the same id.</summary>
    [Alias("restart"), AlwaysInterleave]
    Task<ContextInfo> RestartContextAsync(string contextId);

    /// <summary>Ends and removes a context.</summary>
    [Alias("remove"), AlwaysInterleave]
    Task RemoveContextAsync(string contextId);
}

/// <summary>What a new context should be.</summary>
[GenerateSerializer, Alias("sandbox.create-context"), Immutable]
public sealed record CreateContextRequest
{
    /// <summary><c>python</c>, <c>javascript</c> or <c>bash</c>.</summary>
    [Id(0)] public string Language { get; init; } = "python";

    /// <summary>Working directory; unset: the user's home.</summary>
    [Id(1)] public string? Cwd { get; init; }

    /// <summary>User inside the guest.</summary>
    [Id(2)] public string? User { get; init; }

    /// <summary>Added to the session's environment.</summary>
    [Id(3)] public Dictionary<string, string> Env { get; init; } = [];
}

/// <summary>A context.</summary>
[GenerateSerializer, Alias("sandbox.context-info"), Immutable]
public sealed record ContextInfo
{
    /// <summary>Context id.</summary>
    [Id(0)] public required string Id { get; init; }

    /// <summary>Language.</summary>
    [Id(1)] public required string Language { get; init; }

    /// <summary>Working directory.</summary>
    [Id(2)] public string Cwd { get; init; } = "";

    /// <summary>An execution runs in it now.</summary>
    [Id(3)] public bool Busy { get; init; }
}
