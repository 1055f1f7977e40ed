using System.Globalization;
using System.Text.RegularExpressions;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Network;

/// <summary>
/// The networks of one backend on one host: makes them, keeps some ready, and removes what a predecessor left. A network is a file in one directory, named by the process that made it: its machine cannot outlive that process,
/// so neither need the network.
/// </summary>
public sealed partial class GuestNetworkPool : IAsyncDisposable
{
    private readonly string _directory;
    private readonly GuestInterfaceKind _kind;
    private readonly GuestNetworkOptions _options;
    private readonly ILogger _logger;
    private readonly string _prefix;
    private readonly Lazy<Task<string?>> _problem;
    private readonly Queue<GuestNetwork> _ready = new();
    private readonly Lock _lock = new();
    private readonly CancellationTokenSource _stop = new();
    private Task _filling = Task.CompletedTask;
    private bool _isFilling;
    private bool _isWatchingExit;
    private bool _disposed;
    private static int Made;

    /// <summary>Makes the pool; it touches nothing yet.</summary>
    /// <param name="hostRoot">Runtime directory of the backend on this host; the networks are in <c>net</c> below it.</param>
    /// <param name="kind">Which interface.</param>
    /// <param name="options">How they are made.</param>
    /// <param name="logger">For networks that cannot be made in advance.</param>
    public GuestNetworkPool(string hostRoot, GuestInterfaceKind kind, GuestNetworkOptions options, ILogger? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfNegative(options.Ready);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.Ready, 64);
        (_directory, _kind, _options, _logger) = (Path.Combine(hostRoot, "net"), kind, options, logger ?? NullLogger.Instance);
        var self = ProcessIdentity.Of(Environment.ProcessId)!;
        _prefix = string.Create(CultureInfo.InvariantCulture, $"{self.Pid}-{self.StartTicks}-");
        _problem = new Lazy<Task<string?>>(() => Task.Run(ProbeOnceAsync));
    }

    /// <summary>Finds out, once and by making one, whether there can be networks here. Returns why not, for people, or <see langword="null"/>.</summary>
    public Task<string?> FindProblemAsync() => _problem.Value;

    /// <summary>Whether there can be networks here. The first call waits for the trial: a tenth of a second.</summary>
    public bool Available => _problem.Value.GetAwaiter().GetResult() is null;

    /// <summary>A network for one machine, whoever takes it disposes it.</summary>
    /// <exception cref="IsolationException">It could not be made.</exception>
    public async Task<GuestNetwork> TakeAsync(CancellationToken cancellationToken)
    {
        GuestNetwork? taken;
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            _ready.TryDequeue(out taken);
        }

        try
        {
            return taken ?? await MakeAsync(cancellationToken);
        }
        catch (IOException e)
        {
            throw new IsolationException($"The network of a microVM could not be made: {e.Message}", e);
        }
        finally
        {
            Fill();
        }
    }

    /// <summary>Removes networks of processes that have ended. The machines in them must be dead.</summary>
    /// <returns>Their names.</returns>
    public IReadOnlyList<string> RemoveLeftovers()
    {
        var removed = new List<string>();
        foreach (var path in Directory.Exists(_directory) ? Directory.GetFiles(_directory) : [])
        {
            if (NetworkName().Match(Path.GetFileName(path)) is { Success: true } match && !OwnerOf(match).IsRunning)
            {
                NetworkNamespace.Remove(path);
                removed.Add(Path.GetFileName(path));
            }
        }

        return removed;
    }

    /// <summary>Removes one network by its name, whoever made it; what is no network's name is none.</summary>
    public void Remove(string name)
    {
        if (NetworkName().IsMatch(name))
        {
            NetworkNamespace.Remove(Path.Combine(_directory, name));
        }
    }

    /// <summary>Removes the networks that nobody took, and the directory if nothing else is in it.</summary>
    public async ValueTask DisposeAsync()
    {
        lock (_lock)
        {
            if (_disposed)
            {
                return;
            }

            _disposed = true;
        }

        await _stop.CancelAsync();
        await _filling;
        while (_ready.TryDequeue(out var network))
        {
            await network.DisposeAsync();
        }

        RemoveDirectory();
        _stop.Dispose();
        AppDomain.CurrentDomain.ProcessExit -= OnExit;
    }

    /// <summary>Makes what is missing, one after the other, in the background.</summary>
    private void Fill()
    {
        lock (_lock)
        {
            if (!_disposed && !_isFilling && _ready.Count < _options.Ready)
            {
                _isFilling = true;
                _filling = Task.Run(FillAsync);
            }
        }
    }

    private async Task FillAsync()
    {
        try
        {
            while (true)
            {
                lock (_lock)
                {
                    if (_disposed || _ready.Count >= _options.Ready)
                    {
                        _isFilling = false;
                        return;
                    }
                }

                var made = await MakeAsync(_stop.Token);
                lock (_lock)
                {
                    // Disposing waits for this and takes it then.
                    _ready.Enqueue(made);
                }
            }
        }
        catch (Exception e)
        {
            lock (_lock)
            {
                _isFilling = false;
            }

            if (!_stop.IsCancellationRequested)
            {
                // The next that needs one makes it, and says why not.
                LogNotMade(_logger, e);
            }
        }
    }

    private Task<GuestNetwork> MakeAsync(CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            if (!_isWatchingExit)
            {
                // A program that ends in order without having disposed the pool leaves nothing either.
                _isWatchingExit = true;
                AppDomain.CurrentDomain.ProcessExit += OnExit;
            }
        }

        // The host's own directory has others' machines in it, which must pass through: only this one is closed.
        Directory.CreateDirectory(Path.GetDirectoryName(_directory)!);
        Directory.CreateDirectory(_directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        var path = Path.Combine(_directory, _prefix + Interlocked.Increment(ref Made).ToString(CultureInfo.InvariantCulture));
        return GuestNetwork.CreateAsync(path, _kind, _options, cancellationToken);
    }

    private async Task<string?> ProbeOnceAsync()
    {
        if (!Environment.IsPrivilegedProcess)
        {
            return "microVMs have no network: the server does not run as root";
        }

        try
        {
            await using var network = await MakeAsync(CancellationToken.None);
            using var socket = network.Listen(NetworkPlan.ProxyPort);
            await network.OpenAsync([new OpenEndpoint(System.Net.IPAddress.Parse("192.0.2.1"), 443, TimeSpan.FromSeconds(1))], CancellationToken.None);
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return $"microVMs have no network: one could not be made for a trial: {e.Message}";
        }
        finally
        {
            RemoveDirectory();
        }
    }

    private void OnExit(object? sender, EventArgs e)
    {
        foreach (var path in Directory.Exists(_directory) ? Directory.GetFiles(_directory, _prefix + "*") : [])
        {
            NetworkNamespace.Remove(path);
        }

        RemoveDirectory();
    }

    private void RemoveDirectory()
    {
        try
        {
            Directory.Delete(_directory);
        }
        catch (IOException)
        {
            // It is not there, or there are networks of machines in it.
        }
    }

    private static ProcessIdentity OwnerOf(Match match) =>
        new(int.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture), ulong.Parse(match.Groups[2].ValueSpan, CultureInfo.InvariantCulture));

    [GeneratedRegex(@"\A([0-9]{1,9})-([0-9]{1,19})-[0-9]{1,10}\z")]
    private static partial Regex NetworkName();

    [LoggerMessage(EventId = 2401, Level = LogLevel.Warning, Message = "A network for a microVM could not be made in advance")]
    private static partial void LogNotMade(ILogger logger, Exception error);
}
