using System.Text.Json;
using Google.Protobuf;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest.Validation;

namespace Sandbox.Isolation.Guest;

/// <summary>
/// What a host knows of a guest's channel, saved with the machine: a host that restores it goes on where this one stopped. Only hosts read it. It holds nothing that a user has said but the bytes
/// of standard input that were under way: neither commands nor environments.
/// </summary>
/// <param name="Version">Version of this format.</param>
/// <param name="BootId">Which boot of which guest.</param>
/// <param name="NextStream">The first stream number that was never used.</param>
/// <param name="Executions">Executions that were not over for the host, and those whose start was not answered yet.</param>
/// <param name="Ended">Streams that had ended, or whose answer nobody waits for in the restored machine: what still comes on them is dropped.</param>
/// <param name="Watches">Streams of watches, which end with the connection.</param>
public sealed record GuestMemo(int Version, string BootId, ulong NextStream, IReadOnlyList<ExecutionMemo> Executions, IReadOnlyList<ulong> Ended, IReadOnlyList<ulong> Watches)
{
    /// <summary>The version that this program writes and reads.</summary>
    public const int CurrentVersion = 1;

    /// <summary>As it is stored.</summary>
    public byte[] Encode() => JsonSerializer.SerializeToUtf8Bytes(this);

    /// <summary>Reads a stored one.</summary>
    /// <exception cref="InvalidDataException">It is none, or of another version of this program.</exception>
    public static GuestMemo Decode(ReadOnlySpan<byte> bytes)
    {
        try
        {
            var memo = JsonSerializer.Deserialize<GuestMemo>(bytes);
            if (memo is { Version: not CurrentVersion })
            {
                throw new InvalidDataException($"The memo of the guest's channel has version {memo.Version}; this program reads version {CurrentVersion}.");
            }

            return memo is { BootId: not null, Executions: not null, Ended: not null, Watches: not null, NextStream: > 0 and < long.MaxValue } && memo.Executions.All(e => e.IsSound)
                ? memo
                : throw new InvalidDataException("The memo of the guest's channel lacks something or contradicts itself.");
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"The memo of the guest's channel cannot be read: {e.Message}", e);
        }
    }
}

/// <summary>One execution in a <see cref="GuestMemo"/>.</summary>
/// <param name="Stream">Its stream.</param>
/// <param name="Start">Its <see cref="StartExecution"/> (protobuf), without what was to be run: only what its events are checked by.</param>
/// <param name="Pid">Process id in the guest, or 0 where the answer to its start had not come.</param>
/// <param name="Exited">The host had its exit.</param>
/// <param name="StdinClosedSeq">The event by which the guest closed standard input, or 0.</param>
/// <param name="Stdin">Standard input.</param>
public sealed record ExecutionMemo(ulong Stream, byte[] Start, uint Pid, bool Exited, ulong StdinClosedSeq, StdinMemo Stdin)
{
    internal bool IsSound => Stream is > 0 and < long.MaxValue && Start is not null && Stdin is { UnderWay.Length: <= ProtocolLimits.MaxStdinUnderWay } && Stdin.Credit <= Stdin.Sent
        && (ulong)Stdin.UnderWay.Length <= Stdin.Sent - Stdin.Credit;

    /// <exception cref="InvalidDataException">It is no such message.</exception>
    internal StartExecution Shape()
    {
        try
        {
            return StartExecution.Parser.ParseFrom(Start);
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new InvalidDataException($"The memo of the execution on stream {Stream} cannot be read: {e.Message}", e);
        }
    }

    /// <summary>The part of a request by which its events are checked (see <see cref="ExecutionRules"/>). What the user wants run, and with which secrets, is nobody's business later.</summary>
    internal static StartExecution ShapeOf(StartExecution request)
    {
        var shape = new StartExecution { ExecutionId = request.ExecutionId, OutputWindow = request.OutputWindow, Artifacts = request.Artifacts?.Clone() };
        if (request.WhatCase == StartExecution.WhatOneofCase.Code)
        {
            shape.Code = new Code { ContextId = request.Code.ContextId };
        }
        else
        {
            shape.Command = new Command { OpenStdin = request.Command is { OpenStdin: true }, Pty = request.Command?.Pty?.Clone() };
        }

        return shape;
    }

    internal static byte[] Encode(StartExecution shape) => shape.ToByteArray();
}

/// <summary>Standard input in an <see cref="ExecutionMemo"/>.</summary>
/// <param name="Open">It can be written to.</param>
/// <param name="Sent">Bytes sent in all.</param>
/// <param name="Credit">Bytes that the guest has said it took.</param>
/// <param name="EndOfFile">Its end was asked for.</param>
/// <param name="UnderWay">The last of the bytes sent: those without credit, at most 256 KiB. Empty once nothing needs to be repeated.</param>
public sealed record StdinMemo(bool Open, ulong Sent, ulong Credit, bool EndOfFile, byte[] UnderWay)
{
    /// <summary>Of an execution that has none, or of which nothing was sent.</summary>
    public static StdinMemo Unused(bool open) => new(open, 0, 0, false, []);
}
