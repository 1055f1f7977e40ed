using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Guest.Validation;

/// <summary>
/// What the guest may say on the stream of one execution, in which order. Holds the little state the rules need;
/// used by one thread at a time. Every breach is a <see cref="ProtocolException"/>.
/// </summary>
internal sealed class ExecutionRules
{
    private readonly bool _isCode;
    private readonly bool _hasPty;
    private readonly bool _hasStdin;
    private readonly bool _hasArtifacts;
    private bool _stdinClosed;
    private bool _filesNamed;

    /// <param name="request">What was started.</param>
    /// <param name="afterSeq">The last event that was accepted before, where an execution goes on from a restored machine.</param>
    /// <param name="stdinClosed">Whether its end of input was among those.</param>
    public ExecutionRules(StartExecution request, ulong afterSeq = 0, bool stdinClosed = false)
    {
        LastSeq = afterSeq;
        _stdinClosed = stdinClosed;
        _isCode = request.WhatCase == StartExecution.WhatOneofCase.Code;
        _hasPty = request.Command?.Pty is not null;
        _hasStdin = _hasPty || request.Command is { OpenStdin: true };
        _hasArtifacts = request.Artifacts is not null;
        Window = EventCost.WindowOf(request);
    }

    /// <summary>Bytes of unacknowledged events (as <see cref="EventCost"/> counts) below which the guest may send one more.</summary>
    public int Window { get; }

    /// <summary>The last event that was accepted, or 0.</summary>
    public ulong LastSeq { get; private set; }

    /// <summary>The exit has been seen: nothing may follow.</summary>
    public bool Exited { get; private set; }

    /// <summary>Standard input exists.</summary>
    public bool HasStdin => _hasStdin;

    /// <summary>Accepts the next event or throws.</summary>
    /// <param name="executionEvent">What came.</param>
    /// <param name="unacknowledged">Cost of what the host holds already.</param>
    public void Accept(ExecutionEvent executionEvent, long unacknowledged)
    {
        if (Exited)
        {
            throw new ProtocolException("An event after the exit of its execution.");
        }

        if (executionEvent.Seq != LastSeq + 1)
        {
            throw new ProtocolException($"Event {executionEvent.Seq} where {LastSeq + 1} is next.");
        }

        if (_filesNamed && executionEvent.EventCase != ExecutionEvent.EventOneofCase.Exited)
        {
            throw new ProtocolException("An event between the changed files and the exit.");
        }

        if (unacknowledged >= Window)
        {
            throw new ProtocolException($"Event {executionEvent.Seq} although {unacknowledged} bytes are unacknowledged and the window is {Window}.");
        }

        switch (executionEvent.EventCase)
        {
            case ExecutionEvent.EventOneofCase.Output:
                CheckOutput(executionEvent.Output);
                break;
            case ExecutionEvent.EventOneofCase.Result:
                CheckResult(executionEvent.Result);
                break;
            case ExecutionEvent.EventOneofCase.CodeError:
                RequireCode();
                RequireParts(EventCost.Of(executionEvent));
                break;
            case ExecutionEvent.EventOneofCase.StdinClosed:
                if (!_hasStdin || _stdinClosed)
                {
                    throw new ProtocolException("Standard input closed that was not open.");
                }

                _stdinClosed = true;
                break;
            case ExecutionEvent.EventOneofCase.ChangedFiles:
                CheckFiles(executionEvent.ChangedFiles);
                _filesNamed = true;
                break;
            case ExecutionEvent.EventOneofCase.Exited:
                CheckExit(executionEvent.Exited);
                Exited = true;
                break;
            default:
                throw new ProtocolException("An event without a content.");
        }

        LastSeq = executionEvent.Seq;
    }

    private void CheckOutput(Output output)
    {
        if (output.Data.Length is 0 or > ProtocolLimits.MaxOutputBytes)
        {
            throw new ProtocolException($"An output event of {output.Data.Length} bytes; allowed are 1 to {ProtocolLimits.MaxOutputBytes}.");
        }

        var legal = _hasPty ? output.Fd is OutputFd.Pty : output.Fd is OutputFd.Stdout or OutputFd.Stderr;
        if (!legal)
        {
            throw new ProtocolException($"Output on descriptor {(int)output.Fd}, which this execution does not have.");
        }
    }

    private void CheckResult(RichResult result)
    {
        RequireCode();
        if (result.Data.Count > GuestLimits.MaxResultTypes)
        {
            throw new ProtocolException($"A result of {result.Data.Count} MIME types; allowed are {GuestLimits.MaxResultTypes}.");
        }

        long total = 0;
        foreach (var (type, data) in result.Data)
        {
            if (type.Length is 0 or > GuestLimits.MaxNameBytes || !type.All(c => c is > ' ' and < '\x7f'))
            {
                throw new ProtocolException("A result whose MIME type is not one.");
            }

            total += type.Length + data.Length;
        }

        RequireParts(total);
    }

    private void CheckFiles(ChangedFiles changed)
    {
        if (!_hasArtifacts || changed.Files.Count > ProtocolLimits.MaxChangedFiles)
        {
            throw new ProtocolException($"{changed.Files.Count} changed files where none were asked for, or more than {ProtocolLimits.MaxChangedFiles}.");
        }

        foreach (var file in changed.Files)
        {
            GuestText.RequirePath(file.Path, "The path of a changed file");
            if (file.Path[0] != '/' || file.Size > long.MaxValue / 2 || file.Blocks > long.MaxValue / 2)
            {
                throw new ProtocolException("A changed file without an absolute path, or larger than any disk.");
            }
        }
    }

    private void RequireCode()
    {
        if (!_isCode)
        {
            throw new ProtocolException("A result or an error of code from an execution that is a command.");
        }
    }

    private static void RequireParts(long total)
    {
        if (total > ProtocolLimits.MaxResultBytes + EventCost.Overhead)
        {
            throw new ProtocolException($"A result of {total} bytes; allowed are {ProtocolLimits.MaxResultBytes}.");
        }
    }

    private static void CheckExit(Exited exited)
    {
        if (exited.ExitCode is < 0 or > 255 || exited.Signal is < 0 or > 64)
        {
            throw new ProtocolException($"An exit with code {exited.ExitCode} and signal {exited.Signal}.");
        }

        // Durations become TimeSpans and counters become signed 64-bit numbers further up: a year and 2^62 are beyond any truth.
        const ulong Year = 366UL * 24 * 3600 * 1000;
        if (exited.WallMs > Year || exited.CpuMs > Year * 1024 || exited.PeakMemoryBytes > 1UL << 62)
        {
            throw new ProtocolException("An exit with times or memory beyond all measure.");
        }
    }
}
