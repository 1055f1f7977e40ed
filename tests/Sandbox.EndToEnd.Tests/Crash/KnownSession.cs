using System.Globalization;

namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>
/// What we were told of a session, and so what must be true of it. Where an answer was lost both outcomes are allowed; what was acknowledged is not negotiable.
/// </summary>
internal sealed class KnownSession(string id)
{
    /// <summary>"The variable is not set": what a machine that was lost leaves.</summary>
    public const int Absent = 0;

    private readonly Queue<string> _history = [];
    private readonly Lock _gate = new();
    private int _waking;
    private long _wakings;

    public string Id => id;

    /// <summary>Held by the one who changes it; others only disturb.</summary>
    public SemaphoreSlim Turn { get; } = new(1, 1);

    /// <summary>Values that the variable may have now; none: any.</summary>
    public HashSet<int> Variable { get; private set; } = [Absent];

    /// <summary>Values that the file may have now. Files outlive machines.</summary>
    public HashSet<int> File { get; private set; } = [Absent];

    /// <summary>Checkpoints that we may roll back to, with what they hold.</summary>
    public List<KnownCheckpoint> Checkpoints { get; } = [];

    public List<KnownExecution> Executions { get; } = [];

    /// <summary>It was seen paused and nobody has asked for it since: it must be paused.</summary>
    public bool Asleep { get; private set; }

    /// <summary>We have asked for its end.</summary>
    public bool Deleting { get; set; }

    /// <summary>Its end was acknowledged.</summary>
    public bool Deleted { get; set; }

    /// <summary>It has been seen running: until then a fork still needs its parent.</summary>
    public bool HasRun { get; set; }

    /// <summary>The session it was forked from.</summary>
    public KnownSession? Parent { get; init; }

    public IReadOnlyList<string> History
    {
        get
        {
            lock (_gate)
            {
                return [.. _history];
            }
        }
    }

    /// <summary>Marks that something is done which may wake the session, until it is disposed.</summary>
    public IDisposable Waking()
    {
        lock (_gate)
        {
            _waking++;
            _wakings++;
            Asleep = false;
        }

        return new Waker(this);
    }

    /// <summary>The number to give to <see cref="SawPaused"/>, taken before asking.</summary>
    public long Wakings
    {
        get
        {
            lock (_gate)
            {
                return _wakings;
            }
        }
    }

    /// <summary>It was said to be paused, in answer to something that was asked when <see cref="Wakings"/> was <paramref name="since"/>.</summary>
    public void SawPaused(long since)
    {
        lock (_gate)
        {
            HasRun = true;
            Asleep = _waking == 0 && _wakings == since;
        }
    }

    /// <summary>The server was killed: a machine that may have lived is gone, and with it the variable.</summary>
    public void OnKilled()
    {
        if (!Asleep && Variable.Count > 0)
        {
            Variable.Add(Absent);
        }

        Note("— killed —");
    }

    public void SetVariable(int value, bool acknowledged) => Variable = acknowledged ? [value] : Either(Variable, [value]);

    public void SetFile(int value, bool acknowledged) => File = acknowledged ? [value] : Either(File, [value]);

    /// <summary>It is, or may be, back at a checkpoint.</summary>
    public void RolledBack(KnownCheckpoint to, bool acknowledged)
    {
        Variable = acknowledged ? [.. to.Variable] : Either(Variable, to.Variable);
        File = acknowledged ? [.. to.File] : Either(File, to.File);
    }

    /// <summary>A value was read; from now on it is the one.</summary>
    public void Read(HashSet<int> allowed, int value, string what)
    {
        if (allowed.Count > 0 && !allowed.Contains(value))
        {
            throw new CrashViolationException($"The {what} of session {id} is {Word(value)}; it may be {string.Join(" or ", allowed.Select(Word))}.", this);
        }

        allowed.Clear();
        allowed.Add(value);
    }

    /// <summary>It was made without an answer, so that nothing is known of its values.</summary>
    public void Forget()
    {
        Variable = [];
        File = [];
    }

    public KnownSession Fork(string childId) => new(childId) { Variable = [.. Variable], File = [.. File], Parent = this };

    public void Note(string text)
    {
        lock (_gate)
        {
            _history.Enqueue($"{DateTime.UtcNow:HH:mm:ss.fff} {text}");
            if (_history.Count > 60)
            {
                _history.Dequeue();
            }
        }
    }

    private static HashSet<int> Either(HashSet<int> one, IReadOnlyCollection<int> other) => one.Count == 0 || other.Count == 0 ? [] : [.. one, .. other];

    private static string Word(int value) => value == Absent ? "not there" : value.ToString(CultureInfo.InvariantCulture);

    private sealed class Waker(KnownSession session) : IDisposable
    {
        public void Dispose()
        {
            lock (session._gate)
            {
                session._waking--;
                session._wakings++;
            }
        }
    }
}

/// <summary>A checkpoint that was acknowledged.</summary>
internal sealed record KnownCheckpoint(string Id, IReadOnlyCollection<int> Variable, IReadOnlyCollection<int> File);
