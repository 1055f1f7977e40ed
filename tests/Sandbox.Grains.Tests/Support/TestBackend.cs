using System.Collections.Concurrent;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Images;

namespace Sandbox.Grains.Tests.Support;

/// <summary>A backend whose machines are objects that tests can kill, hold back and count.</summary>
internal sealed class TestBackend(string name = "test") : IIsolationBackend
{
    private int _started;

    public string Name => name;

    /// <summary>Whether it has golden snapshots, and so warm machines. May be changed while the host runs.</summary>
    public bool Warm { get; set; }

    /// <summary>How it hands out devices.</summary>
    public DeviceHandover Handover { get; init; }

    public BackendCapabilities Capabilities => new() { Boundary = TrustBoundary.VirtualMachine, GoldenSnapshot = Warm, WarmPool = Warm, Handover = Handover };

    /// <summary>Machines alive now, by microVM id.</summary>
    public ConcurrentDictionary<string, TestMicroVm> Live { get; } = new();

    /// <summary>All owners that were ever started.</summary>
    public ConcurrentQueue<MicroVmOwner> Started { get; } = new();

    /// <summary>Called before a machine starts; may wait or throw.</summary>
    public Func<MicroVmSpec, CancellationToken, Task> BeforeStart { get; set; } = (_, _) => Task.CompletedTask;

    /// <summary>Most machines that were alive for one session at the same time. Must never be more than one.</summary>
    public int MostForOneSession { get; private set; }

    public Task<BackendVerdict> ProbeAsync(CancellationToken cancellationToken) => Task.FromResult(new BackendVerdict(true, "tcg", "a double", "1", ["no real machine"]));

    public async Task<IMicroVm> StartAsync(MicroVmSpec spec, CancellationToken cancellationToken)
    {
        Started.Enqueue(spec.Owner);
        await BeforeStart(spec, cancellationToken);
        Interlocked.Increment(ref _started);
        if (!File.Exists(spec.DiskPath))
        {
            await File.WriteAllTextAsync(spec.DiskPath, "", cancellationToken);
        }

        var machine = new TestMicroVm(this, spec);
        Live[spec.Owner.VmId] = machine;
        MostForOneSession = Math.Max(MostForOneSession, Live.Values.Count(m => m.Owner.SessionId == spec.Owner.SessionId));
        return machine;
    }

    public Task<GoldenSnapshot?> FindGoldenAsync(string imageDirectory, TemplateSizes sizes, CancellationToken cancellationToken) =>
        Task.FromResult(Warm ? new GoldenSnapshot("0123456789abcdef", "g1", imageDirectory, DateTimeOffset.UnixEpoch, 1) : null);

    public async Task<IMicroVm?> PrepareAsync(MicroVmSpec spec, CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(spec.DiskPath)!);
        await File.WriteAllTextAsync(spec.DiskPath, "", cancellationToken);
        return Live[spec.Owner.VmId] = new TestMicroVm(this, spec);
    }

    public Task<IReadOnlyList<ReapedMicroVm>> ReapAsync(Func<MicroVmOwner, bool> isLive, CancellationToken cancellationToken) =>
        Task.FromResult<IReadOnlyList<ReapedMicroVm>>([]);

    public TestMicroVm Of(string sessionId) => Live.Values.Single(m => m.Owner.SessionId == sessionId);
}

/// <summary>A machine that is an object.</summary>
internal sealed class TestMicroVm(TestBackend backend, MicroVmSpec spec) : IMicroVm
{
    private readonly TaskCompletionSource<MicroVmExit> _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public MicroVmOwner Owner { get; private set; } = spec.Owner;

    public MicroVmSpec Spec => spec;

    public TestGuest TestGuest { get; } = new(spec.DiskPath);

    public IGuest Guest => TestGuest;

    public Task<MicroVmExit> Exited => _exited.Task;

    public MicroVmStartReport StartReport { get; private set; } = new("boot", "tcg", 1, TimeSpan.FromMilliseconds(1));

    /// <summary>The machine dies by itself.</summary>
    public void Crash(string reason)
    {
        backend.Live.TryRemove(Owner.VmId, out _);
        _exited.TrySetResult(new MicroVmExit(false, reason));
        TestGuest.Close("the channel closed");
    }

    public Task ClaimAsync(MicroVmClaim claim, CancellationToken cancellationToken)
    {
        if (_exited.Task.IsCompleted)
        {
            throw new IsolationException("It is dead.");
        }

        File.Move(spec.DiskPath, claim.DiskPath);
        Owner = Owner with { SessionId = claim.SessionId, Generation = claim.Generation };
        StartReport = StartReport with { Method = "pool" };
        return Task.CompletedTask;
    }

    public ValueTask DisposeAsync()
    {
        backend.Live.TryRemove(Owner.VmId, out _);
        _exited.TrySetResult(new MicroVmExit(true, "killed"));
        TestGuest.Close("killed");
        return ValueTask.CompletedTask;
    }
}
