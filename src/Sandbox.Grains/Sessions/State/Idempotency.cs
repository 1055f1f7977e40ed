using System.Security.Cryptography;
using System.Text.Json;
using Sandbox.Abstractions;

namespace Sandbox.Grains.Sessions.State;

/// <summary>A key that a caller used, what for, and what came of it.</summary>
[GenerateSerializer, Alias("sandbox.state.idempotency"), Immutable]
internal sealed record IdempotencyRecord
{
    [Id(0)] public string Key { get; init; } = "";

    [Id(1)] public string Operation { get; init; } = "";

    /// <summary>Fingerprint of the request.</summary>
    [Id(2)] public string Request { get; init; } = "";

    /// <summary>What it made (an execution id), where it made something.</summary>
    [Id(3)] public string Result { get; init; } = "";
}

/// <summary>Idempotency keys: the last 256 of a session, stored with what they did.</summary>
internal static class Idempotency
{
    public const int Capacity = 256;
    public const int MaxKeyLength = 200;

    /// <summary>Whether a key was used before for the same request.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.Conflict"/>: it was used for something else.</exception>
    public static IdempotencyRecord? Find(IReadOnlyList<IdempotencyRecord> records, string? key, string operation, string request)
    {
        if (key is null)
        {
            return null;
        }

        var record = records.FirstOrDefault(r => r.Key == key);
        if (record is null || (record.Operation == operation && record.Request == request))
        {
            return record;
        }

        throw SandboxException.Conflict($"Idempotency key '{key}' was used before for a different request ({record.Operation}). Use a new key for a new request.");
    }

    /// <summary>The records with one more; the oldest go.</summary>
    public static List<IdempotencyRecord> Add(IReadOnlyList<IdempotencyRecord> records, string? key, string operation, string request, string result = "") =>
        key is null
            ? [.. records]
            : [.. records.Skip(Math.Max(0, records.Count - Capacity + 1)), new IdempotencyRecord { Key = key, Operation = operation, Request = request, Result = result }];

    /// <summary>Refuses keys that are no keys.</summary>
    public static void Validate(string? key)
    {
        if (key is not null && (key.Length is 0 or > MaxKeyLength || key.Any(c => c is < '!' or > '~')))
        {
            throw SandboxException.Invalid("idempotencyKey", $"An idempotency key has 1 to {MaxKeyLength} printable ASCII characters without spaces.");
        }
    }

    /// <summary>Fingerprint of a request: equal requests have equal ones, whatever the order of their dictionaries.</summary>
    public static string Fingerprint(CreateSessionRequest request) => Hash(request with { Env = Sorted(request.Env), Metadata = Sorted(request.Metadata) });

    /// <inheritdoc cref="Fingerprint(CreateSessionRequest)"/>
    public static string Fingerprint(ExecutionRequest request) => Hash(request with { Env = Sorted(request.Env) });

    /// <inheritdoc cref="Fingerprint(CreateSessionRequest)"/>
    public static string Fingerprint(EgressPolicy policy) => Hash(policy);

    /// <inheritdoc cref="Fingerprint(CreateSessionRequest)"/>
    public static string Fingerprint(TimeSpan? first, TimeSpan? second) => Hash(new[] { first, second });

    /// <inheritdoc cref="Fingerprint(CreateSessionRequest)"/>
    public static string Fingerprint(string? text) => Hash(text);

    private static string Hash<T>(T value) => Convert.ToHexStringLower(SHA256.HashData(JsonSerializer.SerializeToUtf8Bytes(value, OutputJson.Options)).AsSpan(0, 16));

    private static Dictionary<string, string> Sorted(Dictionary<string, string> of) => new(of.OrderBy(e => e.Key, StringComparer.Ordinal), StringComparer.Ordinal);
}
