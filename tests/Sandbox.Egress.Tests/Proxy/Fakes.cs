using System.Collections.Concurrent;
using System.Net;
using System.Text;
using Sandbox.Abstractions;
using Sandbox.Egress.Audit;
using Sandbox.Egress.Dns;
using Sandbox.Egress.Log;
using Sandbox.Egress.Secrets;

namespace Sandbox.Egress.Tests.Proxy;

internal sealed class FakeNames : IPinnedNames
{
    private readonly ConcurrentDictionary<(string, IPAddress), bool> _pins = [];

    public void Pin(string name, IPAddress address) => _pins[(name, address)] = true;

    public bool Holds(string name, IPAddress address) => _pins.ContainsKey((name, address));

    public string? NameOf(IPAddress address) => _pins.Keys.FirstOrDefault(p => p.Item2.Equals(address)).Item1;

    public Task<IReadOnlyList<IPAddress>> ResolveAsync(string name, CancellationToken cancellationToken) => throw new NotSupportedException();
}

internal sealed class FakeLog : IEgressLog
{
    private readonly ConcurrentQueue<EgressRecord> _records = [];

    public IReadOnlyList<EgressRecord> Records => [.. _records];

    public void Write(EgressRecord record) => _records.Enqueue(record);

    /// <summary>Waits for a line; lines are written when things end, which nothing else tells.</summary>
    public async Task<EgressRecord> WaitAsync(Func<EgressRecord, bool> predicate)
    {
        for (var i = 0; i < 1000; i++)
        {
            if (_records.FirstOrDefault(predicate) is { } record)
            {
                return record;
            }

            await Task.Delay(10);
        }

        throw new TimeoutException($"No such line in the log:\n{string.Join('\n', _records)}");
    }
}

/// <summary>One secret, <c>ph-0123456789</c> for <c>s3cret-value</c>, bound to some hosts' <c>authorization</c>.</summary>
internal sealed class FakeSwap(params string[] hosts) : ISecretSwap
{
    public const string Placeholder = "ph-0123456789";
    public const string Value = "s3cret-value!";

    public bool Concerns(string host) => hosts.Contains(host);

    public string Header(string host, string name, string value, ICollection<string> used)
    {
        if (!Concerns(host) || !name.Equals("authorization", StringComparison.OrdinalIgnoreCase) || !value.Contains(Placeholder, StringComparison.Ordinal))
        {
            return value;
        }

        used.Add("token");
        return value.Replace(Placeholder, Value, StringComparison.Ordinal);
    }

    public bool IsMisused(string host, string name, string value) => hosts.Length > 0 && !Concerns(host) && value.Contains(Placeholder, StringComparison.Ordinal);

    public string Redact(string value) => hosts.Length > 0 ? value.Replace(Value, Placeholder, StringComparison.Ordinal) : value;

    public IBodyRedactor? ForBody() => hosts.Length > 0 ? new Redactor() : null;

    private sealed class Redactor : IBodyRedactor
    {
        private string _held = "";

        public ReadOnlyMemory<byte> Push(ReadOnlySpan<byte> piece)
        {
            var text = (_held + Encoding.Latin1.GetString(piece)).Replace(Value, Placeholder, StringComparison.Ordinal);
            var keep = Enumerable.Range(1, Math.Min(Value.Length - 1, text.Length)).LastOrDefault(n => Value.StartsWith(text[^n..], StringComparison.Ordinal));
            _held = text[^keep..];
            return Encoding.Latin1.GetBytes(text[..^keep]);
        }

        public ReadOnlyMemory<byte> Finish() => Encoding.Latin1.GetBytes(_held);
    }
}

internal sealed class FakeAuditor : IEgressAuditor
{
    public Func<AuditRequest, AuditVerdict> Judge { get; set; } = _ => new AuditVerdict(AuditDecision.Allow, "Nothing against it.", "built-in");

    public ConcurrentQueue<AuditRequest> Seen { get; } = [];

    public Task<AuditVerdict> JudgeAsync(AuditRequest request, CancellationToken cancellationToken)
    {
        Seen.Enqueue(request);
        return Task.FromResult(Judge(request));
    }
}
