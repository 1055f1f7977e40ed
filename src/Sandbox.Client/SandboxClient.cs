using Microsoft.Extensions.DependencyInjection;
using Orleans.Streams;
using Sandbox.Abstractions;

namespace Sandbox.Client;

/// <summary>
/// Sandbox for one tenant, over an Orleans client (or from inside a silo). Safe for concurrent use. Every call has a deadline; calls that may be repeated after a
/// lost answer carry an idempotency key, so that repeating them does nothing twice.
/// </summary>
public sealed partial class SandboxClient
{
    private readonly IGrainFactory _grains;

    /// <summary>Makes a client over a connected Orleans client.</summary>
    /// <param name="cluster">The cluster. Its stream provider <see cref="OutputStreams.Provider"/>, if it has one, is used to follow output.</param>
    /// <param name="tenant">For whom all calls are made.</param>
    /// <param name="options">Deadlines; <see langword="null"/>: defaults.</param>
    public SandboxClient(IClusterClient cluster, string tenant, SandboxClientOptions? options = null)
        : this((IGrainFactory)(cluster ?? throw new ArgumentNullException(nameof(cluster))), tenant, StreamsOf(cluster), options)
    {
    }

    /// <summary>Makes a client over any grain factory, for example a silo's own.</summary>
    /// <param name="grains">The way to the grains.</param>
    /// <param name="tenant">For whom all calls are made.</param>
    /// <param name="streams">Stream provider for live output, or <see langword="null"/>: output is followed by long polling alone.</param>
    /// <param name="options">Deadlines; <see langword="null"/>: defaults.</param>
    public SandboxClient(IGrainFactory grains, string tenant, IStreamProvider? streams, SandboxClientOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(grains);
        ArgumentException.ThrowIfNullOrEmpty(tenant);
        _grains = grains;
        Tenant = tenant;
        Streams = streams;
        Options = options ?? new SandboxClientOptions();
        Caller = new Caller(tenant, Options);
    }

    /// <summary>For whom all calls are made.</summary>
    public string Tenant { get; }

    internal SandboxClientOptions Options { get; }

    internal Caller Caller { get; }

    internal IStreamProvider? Streams { get; }

    /// <summary>Creates a session and returns at once, in state Creating.</summary>
    /// <param name="request">What is asked; <see langword="null"/>: all defaults.</param>
    /// <param name="idempotencyKey">Makes repeated calls with the same <paramref name="sessionId"/> one; <see langword="null"/>: a fresh one, which covers the retries of this call.</param>
    /// <param name="sessionId">The id it shall have; <see langword="null"/>: a fresh one.</param>
    /// <param name="cancellationToken">Gives up waiting for the answer.</param>
    /// <exception cref="SandboxException">The request is wrong, or a quota is used up.</exception>
    public async Task<SandboxSession> CreateSessionAsync(
        CreateSessionRequest? request = null, string? idempotencyKey = null, string? sessionId = null, CancellationToken cancellationToken = default)
    {
        var session = GetSession(sessionId ?? SandboxIds.NewSession());
        var key = idempotencyKey ?? NewKey();
        await Caller.RetryAsync(() => session.Lifecycle.CreateAsync(request ?? new CreateSessionRequest(), key), cancellationToken);
        return session;
    }

    /// <summary>Creates a session and waits until it runs.</summary>
    /// <exception cref="SandboxException">It failed (the message says why), or did not run before the start deadline of the options.</exception>
    public async Task<SandboxSession> StartSessionAsync(CreateSessionRequest? request = null, string? idempotencyKey = null, CancellationToken cancellationToken = default)
    {
        var session = await CreateSessionAsync(request, idempotencyKey, null, cancellationToken);
        await session.WaitUntilRunningAsync(cancellationToken);
        return session;
    }

    /// <summary>A session by id. Makes no call: an id of nothing shows with the first call on it.</summary>
    public SandboxSession GetSession(string sessionId) => new(this, _grains, sessionId);

    /// <summary>The tenant's sessions, oldest first. Sessions that end while it runs are left out.</summary>
    public async Task<IReadOnlyList<SessionInfo>> ListSessionsAsync(CancellationToken cancellationToken = default)
    {
        var shards = await Task.WhenAll(Enumerable.Range(0, ISessionIndexGrain.Shards)
            .Select(shard => Caller.RetryAsync(() => _grains.GetGrain<ISessionIndexGrain>($"{Tenant}/{shard}").ListAsync(), cancellationToken)));
        var sessions = await Task.WhenAll(shards.SelectMany(s => s).OrderBy(e => e.CreatedAt).Select(e => FindAsync(e.SessionId, cancellationToken)));
        return [.. sessions.OfType<SessionInfo>()];
    }

    internal static string NewKey() => "auto-" + Guid.NewGuid().ToString("N");

    private async Task<SessionInfo?> FindAsync(string sessionId, CancellationToken cancellationToken)
    {
        try
        {
            return await GetSession(sessionId).GetAsync(cancellationToken);
        }
        catch (SandboxException e) when (e.Code == SandboxErrorCode.NotFound)
        {
            return null;
        }
    }

    private static IStreamProvider? StreamsOf(IClusterClient cluster) =>
        cluster.ServiceProvider.GetKeyedService<IStreamProvider>(OutputStreams.Provider);
}
