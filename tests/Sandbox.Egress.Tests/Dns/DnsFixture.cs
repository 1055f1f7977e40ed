using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Net;
using System.Text;
using Microsoft.Extensions.Time.Testing;
using Sandbox.Abstractions;
using Sandbox.Egress.Dns;
using Sandbox.Egress.Log;
using Sandbox.Egress.Policy;
using Sandbox.Isolation.Network;

namespace Sandbox.Egress.Tests.Dns;

/// <summary>A session's DNS with a fake world above it.</summary>
internal sealed class DnsFixture : IUpstreamResolver, IEgressLog, IAsyncDisposable
{
    public DnsFixture(EgressPolicy policy, PublicAddresses? addresses = null)
    {
        Resolver = new NameResolver(this, addresses, Time);
        Names = new PinnedNames(Resolver, Time);
        Dns = new SessionDns(new SessionDnsParts
        {
            Decisions = new CompiledPolicy(policy, addresses),
            Resolver = Resolver,
            Names = Names,
            Log = this,
            Time = Time,
            Open = (endpoints, _) =>
            {
                if (FirewallFails)
                {
                    throw new IOException("the namespace is gone");
                }

                Opened.AddRange(endpoints);
                return Task.CompletedTask;
            },
        });
    }

    public FakeTimeProvider Time { get; } = new(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero));

    public NameResolver Resolver { get; }

    public PinnedNames Names { get; }

    public SessionDns Dns { get; }

    public List<OpenEndpoint> Opened { get; } = [];

    public ConcurrentQueue<EgressRecord> Records { get; } = new();

    public ConcurrentDictionary<string, UpstreamAnswer> World { get; } = new();

    public ConcurrentQueue<string> Asked { get; } = new();

    public bool FirewallFails { get; set; }

    public TaskCompletionSource? Slow { get; set; }

    public DnsFixture Has(string name, int ttl, params string[] addresses)
    {
        World[name] = new UpstreamAnswer(UpstreamStatus.Found, [.. addresses.Select(IPAddress.Parse)], TimeSpan.FromSeconds(ttl));
        return this;
    }

    public async Task<Reply> AskAsync(string name, ushort type = 1, bool edns = false, bool tcp = false) => new((await Dns.AnswerAsync(Query(name, type, edns), tcp, CancellationToken.None))!);

    public static byte[] Query(string name, ushort type = 1, bool edns = false, ushort id = 0x1234, ushort payload = 4096)
    {
        var bytes = new List<byte> { (byte)(id >> 8), (byte)id, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, (byte)(edns ? 1 : 0) };
        foreach (var label in name.Split('.', StringSplitOptions.RemoveEmptyEntries))
        {
            bytes.Add((byte)label.Length);
            bytes.AddRange(Encoding.Latin1.GetBytes(label));
        }

        bytes.AddRange([0, (byte)(type >> 8), (byte)type, 0, 1]);
        if (edns)
        {
            bytes.AddRange([0, 0, 41, (byte)(payload >> 8), (byte)payload, 0, 0, 0, 0, 0, 0]);
        }

        return [.. bytes];
    }

    public async Task<UpstreamAnswer> ResolveAsync(string name, CancellationToken cancellationToken)
    {
        Asked.Enqueue(name);
        if (Slow is not null)
        {
            await Slow.Task.WaitAsync(cancellationToken);
        }

        return World.TryGetValue(name, out var answer) ? answer : UpstreamAnswer.NoSuchName;
    }

    public void Write(EgressRecord record) => Records.Enqueue(record);

    public ValueTask DisposeAsync() => Dns.DisposeAsync();
}

/// <summary>An answer, read without the code that wrote it.</summary>
internal sealed class Reply(byte[] bytes)
{
    public byte[] Bytes => bytes;

    public int Code => bytes[3] & 15;

    public bool IsCut => (bytes[2] & 2) != 0;

    public int Id => BinaryPrimitives.ReadUInt16BigEndian(bytes);

    public int AnswerCount => BinaryPrimitives.ReadUInt16BigEndian(bytes.AsSpan(6));

    public string Question
    {
        get
        {
            var at = 12;
            var labels = new List<string>();
            while (bytes[at] != 0)
            {
                labels.Add(Encoding.Latin1.GetString(bytes, at + 1, bytes[at]));
                at += bytes[at] + 1;
            }

            return string.Join('.', labels);
        }
    }

    private int FirstAnswer => 12 + Question.Length + (Question.Length == 0 ? 1 : 2) + 4;

    public string[] Addresses => [.. Enumerable.Range(0, AnswerCount).Select(i => new IPAddress(bytes.AsSpan(FirstAnswer + (i * 16) + 12, 4)).ToString())];

    public int Ttl => BinaryPrimitives.ReadInt32BigEndian(bytes.AsSpan(FirstAnswer + 6));

    public string Text => Encoding.Latin1.GetString(bytes);
}
