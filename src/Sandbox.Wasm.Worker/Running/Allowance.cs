using System.Collections.Concurrent;
using System.Diagnostics;

namespace Sandbox.Wasm.Worker.Running;

/// <summary>What one machine may use of memory and processor, over all its guests.</summary>
internal sealed class Allowance(long memoryBytes, double cores, int processors)
{
    /// <summary>A machine that was idle may use this much at once.</summary>
    private static readonly TimeSpan Burst = TimeSpan.FromMilliseconds(200);

    private readonly ConcurrentDictionary<Run, long> _memory = new();
    private readonly Lock _lock = new();
    private readonly long _began = Stopwatch.GetTimestamp();
    private TimeSpan _spent;
    private TimeSpan _forgiven;

    public long MemoryBytes { get; } = memoryBytes;

    /// <summary>Memory that is not a guest's: the file system's tree.</summary>
    public Func<long> Fixed { get; set; } = () => 0;

    public long MemoryUsed => Fixed() + _memory.Values.Sum();

    /// <summary>Processor time of all guests.</summary>
    public TimeSpan Spent
    {
        get
        {
            lock (_lock)
            {
                return _spent;
            }
        }
    }

    /// <summary>Counts a guest's memory. False: all together have too much.</summary>
    public bool Charge(Run run, long bytes)
    {
        _memory[run] = bytes;
        return MemoryUsed <= MemoryBytes;
    }

    public void Discharge(Run run) => _memory.TryRemove(run, out _);

    /// <summary>Counts processor time, and says how long its user has to pause for it.</summary>
    public TimeSpan Spend(TimeSpan time)
    {
        lock (_lock)
        {
            _spent += time;
            if (cores >= processors)
            {
                // The turns hold it already.
                return TimeSpan.Zero;
            }

            var allowed = (Stopwatch.GetElapsedTime(_began) * cores) - _forgiven;
            if (allowed - _spent > Burst)
            {
                // What was not used is not saved up.
                _forgiven += allowed - _spent - Burst;
                return TimeSpan.Zero;
            }

            return allowed < _spent ? (_spent - allowed) / cores : TimeSpan.Zero;
        }
    }
}
