using System.Globalization;
using Google.Protobuf;
using Orleans.Concurrency;
using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.State;
using Sandbox.Grains.Sessions.Validation;
using Sandbox.Guest.Protocol;
using FileInfo = Sandbox.Guest.Protocol.FileInfo;
using Request = Sandbox.Guest.Protocol.Request;

namespace Sandbox.Grains.Sessions;

/// <summary>Files and metrics: checked here, done by the guest. The guest resolves paths with its user's rights, so none can reach the host.</summary>
internal sealed partial class SessionGrain
{
    public async Task<FileEntry> StatAsync(string path, string? user)
    {
        CheckPathAndUser(path, user);
        return EntryOf(await AskGuestAsync(new Request { Stat = new StatPath { Path = path, User = user ?? "" } }));
    }

    public async Task<FilePage> ListAsync(ListFilesRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        CheckPathAndUser(request.Path, request.User);
        CheckNumber("depth", request.Depth, 1, 32);
        CheckNumber("limit", request.Limit, 1, ProtocolLimits.MaxListEntries);
        if (request.After is not null)
        {
            ExecutionValidation.CheckPath("after", request.After);
        }

        var list = new ListDirectory { Path = request.Path, User = request.User ?? "", Depth = (uint)request.Depth, Limit = (uint)request.Limit, After = request.After ?? "" };
        var answer = await AskGuestAsync(new Request { List = list });
        return new FilePage([.. (answer.Files?.Entries ?? []).Select(EntryOf)], answer.Files?.More ?? false);
    }

    public async Task<FileEntry> MakeDirectoryAsync(string path, string? user)
    {
        CheckPathAndUser(path, user);
        return EntryOf(await AskGuestAsync(new Request { Mkdir = new MakeDirectory { Path = path, User = user ?? "", Parents = true } }), path);
    }

    public async Task<FileEntry> MoveAsync(string from, string to, bool overwrite, string? user)
    {
        ExecutionValidation.CheckPath("from", from);
        ExecutionValidation.CheckPath("to", to);
        ExecutionValidation.CheckUser("user", user);
        return EntryOf(await AskGuestAsync(new Request { Move = new MovePath { From = from, To = to, User = user ?? "", Overwrite = overwrite } }), to);
    }

    public async Task RemoveAsync(string path, bool recursive, string? user)
    {
        CheckPathAndUser(path, user);
        await AskGuestAsync(new Request { Remove = new RemovePath { Path = path, User = user ?? "", Recursive = recursive } });
    }

    public async Task<OpenedFile> OpenReadAsync(string path, string? user)
    {
        CheckPathAndUser(path, user);
        return await OpenAsync(new OpenFile { Path = path, User = user ?? "", Read = new OpenRead() });
    }

    public async Task<OpenedFile> OpenWriteAsync(OpenWriteRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        CheckPathAndUser(request.Path, request.User);
        if (request.Mode is { } mode and (< 0 or > 4095))
        {
            throw SandboxException.Invalid("mode", $"{Convert.ToString(mode, 8)} (octal) is outside 0 to 7777.");
        }

        FileLabels.Check(request);
        var write = new OpenWrite { Permissions = (uint)(request.Mode ?? 0), MakeParents = request.MakeParents, Append = request.Append };
        write.Metadata.Add(request.Metadata);
        return await OpenAsync(new OpenFile { Path = request.Path, User = request.User ?? "", Write = write });
    }

    public async Task<Immutable<byte[]>> ReadChunkAsync(string handle, long offset, int length)
    {
        CheckOffset(offset);
        CheckNumber("length", length, 1, ISessionFiles.MaxChunkBytes);
        var (d, number) = await ResolveAsync(handle);
        var answer = await AskGuestAsync(d, new Request { Read = new ReadChunk { Handle = number, Offset = (ulong)offset, Length = (uint)length } });
        return new Immutable<byte[]>(answer.Chunk?.Data.ToByteArray() ?? []);
    }

    public async Task WriteChunkAsync(string handle, long offset, Immutable<byte[]> data)
    {
        CheckOffset(offset);
        if (data.Value is null || data.Value.Length > ISessionFiles.MaxChunkBytes)
        {
            throw new SandboxException(SandboxErrorCode.TooLarge, $"A chunk has at most {ISessionFiles.MaxChunkBytes} bytes.", "data");
        }

        var (d, number) = await ResolveAsync(handle);
        await AskGuestAsync(d, new Request { Write = new WriteChunk { Handle = number, Offset = (ulong)offset, Data = UnsafeByteOperations.UnsafeWrap(data.Value) } });
    }

    public async Task CloseAsync(string handle, bool commit)
    {
        var (d, number) = await ResolveAsync(handle);
        await AskGuestAsync(d, new Request { CloseFile = new CloseFile { Handle = number, Commit = commit } });
    }

    public async Task<SessionMetrics> GetMetricsAsync()
    {
        // Looking is no activity: a dashboard must not keep a forgotten session alive.
        var before = _lastActivity;
        var d = await RequireRunningAsync();
        _lastActivity = before;
        var m = (await AskGuestAsync(d, new Request { Metrics = new GetMetrics() })).Metrics ?? new Metrics();
        return new SessionMetrics
        {
            MemoryTotal = Clamp(m.MemoryTotal),
            MemoryAvailable = Clamp(m.MemoryAvailable),
            DiskTotal = Clamp(m.DiskTotal),
            DiskFree = Clamp(m.DiskFree),
            Vcpus = (int)Math.Min(m.Vcpus, 1024),
            CpuBusy = Milliseconds(m.CpuBusyMs),
            Processes = (int)Math.Min(m.Processes, int.MaxValue),
            Load1 = double.IsFinite(m.Load1) ? m.Load1 : 0,
            GuestTime = TimeOf(m.UnixNanos),
            Uptime = Milliseconds(m.UptimeMs),
        };
    }

    private async Task<OpenedFile> OpenAsync(OpenFile open)
    {
        var d = await RequireRunningAsync();
        var answer = await AskGuestAsync(d, new Request { OpenFile = open });
        var handle = answer.Handle ?? throw new SandboxException(SandboxErrorCode.Internal, "The guest answered without a handle.");
        return new OpenedFile(string.Create(CultureInfo.InvariantCulture, $"{d.Generation}.{handle.Handle}"), EntryOf(handle.Info ?? new FileInfo(), open.Path));
    }

    /// <summary>A handle is good for the microVM that gave it.</summary>
    private async Task<(SessionDocument Document, ulong Handle)> ResolveAsync(string handle)
    {
        var parts = (handle ?? "").Split('.');
        if (parts.Length != 2
            || !long.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out var generation)
            || !ulong.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out var number))
        {
            throw SandboxException.Invalid("handle", "That is not a file handle.");
        }

        var d = await RequireRunningAsync();
        return d.Generation == generation
            ? (d, number)
            : throw SandboxException.Conflict("The file handle was lost with its microVM. Open the file again.");
    }

    private async Task<Response> AskGuestAsync(Request request) => await AskGuestAsync(await RequireRunningAsync(), request);

    private async Task<Response> AskGuestAsync(SessionDocument d, Request request)
    {
        var bytes = await AskMachineAsync(d, vm => vm.RequestAsync(d.Generation, new Immutable<byte[]>(request.ToByteArray())));
        return Response.Parser.ParseFrom(bytes.Value);
    }

    private static void CheckPathAndUser(string path, string? user)
    {
        ExecutionValidation.CheckPath("path", path);
        ExecutionValidation.CheckUser("user", user);
    }

    private static void CheckNumber(string field, int value, int least, int most)
    {
        if (value < least || value > most)
        {
            throw SandboxException.Invalid(field, $"{value} is outside {least} to {most}.");
        }
    }

    private static void CheckOffset(long offset)
    {
        if (offset < 0)
        {
            throw SandboxException.Invalid("offset", "An offset is not negative.");
        }
    }

    private static FileEntry EntryOf(Response answer) => EntryOf(answer.File ?? throw new SandboxException(SandboxErrorCode.Internal, "The guest answered without a file."));

    private static FileEntry EntryOf(Response answer, string path) => EntryOf(answer.File ?? new FileInfo(), path);

    private static FileEntry EntryOf(FileInfo info, string path) => EntryOf(info.Path.Length > 0 ? info : new FileInfo(info) { Path = path });

    private static FileEntry EntryOf(FileInfo info) => new()
    {
        Path = info.Path,
        Kind = info.Type switch
        {
            FileType.Regular => FileKind.File,
            FileType.Directory => FileKind.Directory,
            FileType.Symlink => FileKind.Symlink,
            _ => FileKind.Other,
        },
        Size = Clamp(info.Size),
        Mode = (int)(info.Mode & 4095),
        Owner = info.Owner,
        Group = info.Group,
        ModifiedAt = TimeOf(info.ModifiedUnixNanos),
        SymlinkTarget = info.SymlinkTarget.Length > 0 ? info.SymlinkTarget : null,
        Metadata = new(info.Metadata, StringComparer.Ordinal),
    };

    private static long Clamp(ulong value) => (long)Math.Min(value, long.MaxValue);

    private static TimeSpan Milliseconds(ulong value) => TimeSpan.FromMilliseconds(Math.Min(value, (ulong)TimeSpan.FromDays(36500).TotalMilliseconds));

    private static DateTimeOffset TimeOf(long nanos) => DateTimeOffset.UnixEpoch.AddTicks(nanos / 100);
}
