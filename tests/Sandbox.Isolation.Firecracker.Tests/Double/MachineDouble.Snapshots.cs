using System.Text.Json;

namespace Sandbox.Isolation.Firecracker.Tests.Double;

// Saving into files, and loading from them.
internal sealed partial class MachineDouble
{
    private ApiAnswer CreateSnapshot(JsonElement request)
    {
        if (_state != "Paused")
        {
            throw new DoubleException("Cannot create a snapshot: the microVM is not paused.");
        }

        var full = Shapes.TextOf(request, "snapshot_type") is null or "Full";
        if (!full && !_tracks)
        {
            throw new DoubleException("Diff snapshots are not allowed on uVMs with dirty page tracking disabled.");
        }

        using (var memory = Posix.OpenAnew(Shapes.TextOf(request, "mem_file_path")!))
        {
            _memory!.Save(memory, full);
        }

        if (setting.Has("no-room"))
        {
            throw new DoubleException("Cannot write the memory file: No space left on device (os error 28)");
        }

        using var state = Posix.OpenAnew(Shapes.TextOf(request, "snapshot_path")!);
        var saved = new StateFile
        {
            MemoryBytes = _memory.Length,
            Drives = [.. _drives.Values.Select(d => SavedOf(Shapes.TextOf(d, "drive_id")!, Shapes.TextOf(d, "path_on_host")!, Shapes.Says(d, "is_read_only")))],
            UdsPath = _vsock!.Path,
            Agent = _vsock.Agent?.Path ?? "",
            AgentPort = _vsock.Port,
            Pages = new SortedDictionary<long, string>(_memory.Content.ToDictionary()),
        };
        RandomAccess.Write(state, saved.Encode(), 0);
        _vsock.ResetAtResume();
        return ApiAnswer.Done;
    }

    private SavedDrive SavedOf(string driveId, string path, bool readOnly)
    {
        var file = _files[driveId];
        return new SavedDrive(driveId, path, readOnly, RandomAccess.GetLength(file), readOnly ? "" : StateFile.HashOf(file));
    }

    /// <summary>A process in which a load has failed is of no more use, and ends.</summary>
    private async Task<ApiAnswer> LoadOrDieAsync(JsonElement request)
    {
        if (IsStarted || _configured)
        {
            throw new DoubleException("Loading a microVM snapshot is not allowed after configuring boot-specific resources.");
        }

        try
        {
            await LoadAsync(request);
            return ApiAnswer.Done;
        }
        catch (DoubleException e)
        {
            Console.Error.WriteLine($"RunWithoutApiError: {e.Message}");
            _ = Task.Delay(50).ContinueWith(_ => Environment.Exit(1), TaskScheduler.Default);
            throw;
        }
    }

    private async Task LoadAsync(JsonElement request)
    {
        StateFile saved;
        using (var state = Posix.OpenToRead(Shapes.TextOf(request, "snapshot_path")!))
        {
            var bytes = new byte[RandomAccess.GetLength(state)];
            RandomAccess.Read(state, bytes, 0);
            saved = StateFile.Decode(bytes);
        }

        _memory = new GuestMemory(saved.MemoryBytes);
        var backend = request.GetProperty("mem_backend");
        var path = Shapes.TextOf(backend, "backend_path")!;
        if (Shapes.TextOf(backend, "backend_type") == "File")
        {
            var file = Posix.OpenToRead(path);
            if (RandomAccess.GetLength(file) != saved.MemoryBytes)
            {
                throw new DoubleException($"the memory file has {RandomAccess.GetLength(file)} bytes instead of {saved.MemoryBytes}");
            }

            // Every page that must be zero is looked at.
            _memory.Load((index, page) => RandomAccess.Read(file, page, index * GuestMemory.Page), saved.Pages, Enumerable.Range(0, (int)(saved.MemoryBytes / GuestMemory.Page)).Select(i => (long)i));
        }
        else
        {
            if (setting.Has("bad-pager"))
            {
                UserfaultMemory.SendNonsense(userfault, path);
                await Task.Delay(Timeout.Infinite);
            }

            var served = new UserfaultMemory(userfault, path, saved.MemoryBytes);
            _memory.Load(served.Read, saved.Pages, Enumerable.Range(0, 64).Select(i => i * (saved.MemoryBytes / GuestMemory.Page / 64)));
        }

        foreach (var drive in saved.Drives)
        {
            var file = Open(drive.Path, drive.IsReadOnly);
            if (RandomAccess.GetLength(file) != drive.Length || (!drive.IsReadOnly && StateFile.HashOf(file) != drive.Hash))
            {
                throw new DoubleException($"drive {drive.Id} is not what it was when the microVM was saved");
            }

            _files[drive.Id] = file;
            _drives[drive.Id] = JsonSerializer.SerializeToElement(new { drive_id = drive.Id, path_on_host = drive.Path, is_read_only = drive.IsReadOnly });
        }

        _tracks = Shapes.Says(request, "track_dirty_pages") || Shapes.Says(request, "enable_diff_snapshots");
        _vsock = new VsockDouble(saved.UdsPath, saved.AgentPort, setting.Has("deaf") ? null : await AgentLink.ClaimAsync(setting.Broker, saved.Agent));
        _vsock.Pause();
        _state = "Paused";
        if (Shapes.Says(request, "resume_vm"))
        {
            SetState("Resumed");
        }
    }
}
